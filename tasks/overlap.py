"""Which evaluation images are known to lie in the training data, the task's own or another's.

VQAv2 asks about COCO images. Visual Genome, from which GQA's images are, shares 51,498 images with
COCO's train2014 and val2014 (https://arxiv.org/abs/1602.07332). Karpathy's `val` and `test` are
parts of val2014, and so is val2017; train2017 and Karpathy's `restval` hold the rest of it.
"""

import logging
import os
from collections.abc import Hashable, Iterable
from functools import cache

from tasks.base import Dataset, ImageRef
from tasks.images import FileImage

logger = logging.getLogger(__name__)

_FROM_VAL2014 = {
    "vqav2": "VQAv2's val2014 questions are about this split's images (its train2014 ones are not, "
    "so training on those alone is no leak)",
    "gqa": "part of GQA's training images are COCO images of this split",
}
_SHARED = {
    **{("coco_captioning", s): _FROM_VAL2014 for s in ("val", "karpathy_val", "karpathy_test")},
    ("vqav2", "val"): {
        "coco_captioning": "Karpathy's training split and train2017 hold images of val2014 "
        "(train2014 does not)",
        "gqa": "part of GQA's training images are COCO images of this split",
    },
    **{
        ("gqa", split): {
            "coco_captioning": "part of this split's images are COCO training images",
            "vqav2": "part of this split's images are COCO training images",
        }
        for split in ("val", "val_all")
    },
}


def overlap_notes(task: str, split: str, trained_on: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence for each task trained on whose images may be among those evaluated on."""
    shared = _SHARED.get((task, split), {})
    return tuple(
        f"Images in common: the model was trained on {name}, and {shared[name]}."
        for name in dict.fromkeys(trained_on)
        if name in shared
    )


def warn_of_shared(trained: Dataset, scored: Dataset) -> None:
    """Say how many scored examples have an image that is trained on, the same file, if any."""
    known = {_place(image) for example in trained for image in example.images}
    num = sum(not known.isdisjoint(map(_place, example.images)) for example in scored)
    if num:
        logger.warning(
            "Warning: %d of the %d scored examples of %s show images that are trained on, so the "
            "score says little of new images; hold out a part by `palitune split TABLE`.",
            *(num, len(scored), scored.task.name),
        )


def _place(image: ImageRef) -> Hashable:
    if not isinstance(image, FileImage):
        return image
    folder, name = os.path.split(image.path)
    return _real_folder(folder), name


@cache  # millions of images lie in a few folders
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
