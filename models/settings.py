"""The settings of a model: how it is fed, and how it answers."""

from dataclasses import dataclass, fields
from typing import Literal

Auto = Literal["auto"]  # in place of a number: chosen by the machine and the data


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """The settings of generation; greedy by default.

    Attributes:
        max_new_tokens: most tokens of an answer.
        min_new_tokens: fewest.
        num_beams: beam search where over 1.
        do_sample: draw from the distribution, seeded by PyTorch's global generator.
        temperature, top_p: of the distribution that is drawn from.
        seed: of the draws of one scoring.
    """

    max_new_tokens: int
    min_new_tokens: int = 0
    num_beams: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0


GENERATION = tuple(entry.name for entry in fields(Decoding) if entry.name != "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyOptions:
    """The settings of a checkpoint beside its path.

    Attributes:
        chat_template: Jinja text in place of the checkpoint's own.
        image_size: side in pixels that images are brought to.
        min_pixels, max_pixels: least and most pixels of an image, where it keeps its proportions.
        trust_remote_code: whether code of the checkpoint may run.
        model_class: class of transformers to load it by, in place of the family's.
    """

    chat_template: str | None = None
    image_size: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    trust_remote_code: bool = False
    model_class: str | None = None
