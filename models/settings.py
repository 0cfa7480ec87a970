"""The settings of a model: how it is fed, and how it answers."""

from collections.abc import Sequence
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

    def check(self, kind: str, takes_template: bool, image_options: Sequence[str]) -> None:
        """Verify that each has a meaning for a kind of model.

        Args:
            kind: the family's name.
            takes_template: whether it has a chat format.
            image_options: those of images that it understands.

        Raises:
            ValueError: one has none; names it.
        """
        if self.chat_template is not None and not takes_template:
            raise ValueError(
                f"--chat_template has no meaning for {kind} models, which have no chat "
                "format; leave it out."
            )
        for name in ("image_size", "min_pixels", "max_pixels"):
            if getattr(self, name) is not None and name not in image_options:
                takes = " and ".join(f"--{option}" for option in image_options)
                raise ValueError(
                    f"--{name} has no meaning for {kind} models, whose image size is "
                    f"{f'set by {takes}' if takes else 'fixed by the checkpoint'}; leave it out."
                )
