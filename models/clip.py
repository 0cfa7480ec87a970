"""CLIP-S and RefCLIP-S: how well a caption fits its image, and its references (arXiv:2104.08718).

Source of every rule here: https://github.com/jmhessel/clipscore (`clipscore.py`), the script of
Hessel et al. 2021. Its figures are those of openai/clip-vit-base-patch32; another CLIP gives
numbers that compare only among themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, harmonic_mean
from typing import TYPE_CHECKING, Any, Protocol

from models.checkpoint import read_config
from models.loading import choose_device
from models.whole_weights import load_whole

if TYPE_CHECKING:
    import torch
    from PIL import Image

_PREFIX = "A photo depicts "  # of candidates and references
_WEIGHT = 2.5  # the paper's w, of the image's term alone


class ImageFile(Protocol):
    """An image that is not read before it is opened."""

    def open(self) -> "Image.Image":
        """Decode the image."""
        ...


@dataclass(frozen=True, slots=True)
class ClipScores:
    """The CLIP scores of a set of captions.

    Attributes:
        figures: `CLIP-S` (0 to 2.5) and `RefCLIP-S` (0 to 10/7), means over the examples; None
            where not available.
        reasons: for each None in `metrics`, why.
        clip_s: CLIP-S of each example.
        ref_clip_s: RefCLIP-S of each example, None for one without a reference.
    """

    metrics: dict[str, float | None]
    reasons: dict[str, str]
    clip_s: list[float]
    ref_clip_s: list[float | None]


class ClipScorer:
    """Scores captions by one CLIP model.

    Args:
        model: a CLIPModel in float32; half precision shifts the values.
        tokenizer: of the same checkpoint.
        image_processor: of the same checkpoint; resizes (Pillow, bicubic) and normalises.
        name: folder, or Hub id and commit.
    """

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any, name: str = "") -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.image_processor = image_processor

    def __call__(
        self,
        images: Sequence[ImageFile],
        candidates: Sequence[str],
        references: Sequence[Sequence[str]],
        batch_size: int,
    ) -> ClipScores:
        """Score one caption per image.

        CLIP-S is 2.5 * max(cos(caption, image), 0). RefCLIP-S is the harmonic mean of CLIP-S
        and the greatest max(cos(caption, reference), 0), and 0 where one of the two is 0.

        Args:
            images: opened one after the other, and not kept.
            candidates: one caption per image.
            references: those of each image, as many as there are; may be none.
            batch_size: the most images, or texts, that CLIP is given at once.
        """
        import torch
        from torch.nn.functional import normalize

        _check(images, candidates, references)
        clip_s: list[float] = []
        ref_clip_s: list[float | None] = []
        for start in range(0, len(candidates), batch_size):
            part = slice(start, start + batch_size)
            features = normalize(self.embed_images(images[part]))
            texts = [*candidates[part], *(text for group in references[part] for text in group)]
            batches = (texts[i : i + batch_size] for i in range(0, len(texts), batch_size))
            captions, *groups = normalize(torch.cat([*map(self.embed_texts, batches)])).split(
                [len(features), *map(len, references[part])]
            )
            for feature, caption, group in zip(features, captions, groups, strict=True):
                clip_s.append(_WEIGHT * max(0.0, float(feature @ caption)))
                ref_clip_s.append(_ref_clip_s(clip_s[-1], (group @ caption).tolist()))
        known = [value for value in ref_clip_s if value is not None]
        without = len(ref_clip_s) - len(known)
        return ClipScores(
            metrics={"CLIP-S": fmean(clip_s), "RefCLIP-S": None if without else fmean(known)},
            reasons={"RefCLIP-S": f"{without} of {len(ref_clip_s)} examples have no reference"}
            if without
            else {},
            clip_s=clip_s,
            ref_clip_s=ref_clip_s,
        )

    def embed_images(self, images: Sequence[ImageFile]) -> "torch.Tensor":
        """Embed one batch of images: (number of images, width), float32, of any length."""
        import torch

        pixels = torch.stack([self._pixels(image.open().convert("RGB")) for image in images])
        output = self.model.get_image_features(pixel_values=pixels.to(self.model.device))
        embeddings: torch.Tensor = output.pooler_output
        return embeddings.cpu()

    def embed_texts(self, texts: Sequence[str]) -> "torch.Tensor":
        """Embed one batch of texts: (number of texts, width), float32, of any length.

        A text with its prefix is cut to CLIP's 77 tokens, of which the last still ends it.
        """
        inputs = self.tokenizer(
            [_PREFIX + text for text in texts],
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            padding=True,
            return_tensors="pt",
        )
        output = self.model.get_text_features(**inputs.to(self.model.device))
        embeddings: torch.Tensor = output.pooler_output
        return embeddings.cpu()

    def _pixels(self, image: "Image.Image") -> "torch.Tensor":
        """Resize the short side, normalise, take the centre: (3, size, size).

        The centre is torchvision's, as in the script: it rounds halves to even. That of
        transformers rounds down, one pixel beside it for the 640 x 427 of many COCO photographs.
        """
        output = self.image_processor(image, do_center_crop=False, return_tensors="pt")
        pixels: torch.Tensor = output["pixel_values"][0]
        size = self.model.config.vision_config.image_size
        top, left = (round((length - size) / 2) for length in pixels.shape[1:])
        return pixels[:, top : top + size, left : left + size]


def load_clip(model_path: str, device: str = "auto", revision: str | None = None) -> ClipScorer:
    """Load a CLIP model to score captions with.

    Args:
        model_path: folder or Hub id; published figures are by openai/clip-vit-base-patch32.
        device: as in `models.loading.choose_device`.
        revision: of the Hub repository.

    Raises:
        ValueError: nothing there, not a CLIP model, incomplete or damaged, no such device, or the
            Hub cannot be reached.
    """
    import torch
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    torch_device = choose_device(device)
    config, folder, commit = read_config(model_path, revision)
    if config.get("model_type") != "clip":
        raise ValueError(
            f"{model_path} is not a CLIP model (its model_type is {config.get('model_type')}); "
            "pass one whose config.json has model_type clip, as openai/clip-vit-base-patch32."
        )
    place = model_path if folder is None else str(folder)
    model = load_whole(CLIPModel, place, revision=commit, dtype=torch.float32)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=commit)
        # the official script resizes by Pillow; torchvision's tensors would round differently
        image_processor = CLIPImageProcessorPil.from_pretrained(place, revision=commit)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"CLIP model {model_path} cannot be read ({_first_line(error)}); copy or download it "
            "again."
        ) from error
    # where its files are absent transformers makes one without a vocabulary, and says nothing
    if tokenizer.unk_token_id in tokenizer(_PREFIX, add_special_tokens=False)["input_ids"]:
        raise ValueError(
            f"CLIP model {model_path} has no tokenizer that can be used; beside the weights it "
            "needs tokenizer.json and tokenizer_config.json."
        )
    model = model.to(torch_device).requires_grad_(False)
    return ClipScorer(model, tokenizer, image_processor, f"{place}@{commit}" if commit else place)


def _check(
    images: Sequence[ImageFile], candidates: Sequence[str], references: Sequence[Sequence[str]]
) -> None:
    if not candidates:
        raise ValueError("CLIP-S needs at least one caption, got 0.")
    if not len(images) == len(candidates) == len(references):
        raise ValueError(
            "CLIP-S takes one caption and one list of references per image, got "
            f"{len(candidates)} captions and {len(references)} lists for {len(images)} images."
        )


def _ref_clip_s(clip_s: float, cosines: Sequence[float]) -> float | None:
    """RefCLIP-S of one example; statistics' harmonic mean is 0 where one of its values is."""
    return harmonic_mean([clip_s, max(0.0, *cosines)]) if cosines else None


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].rstrip(".")
