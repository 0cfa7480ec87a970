"""Which evaluation images are known to lie in another task's training data.

VQAv2 asks about COCO images. Visual Genome, from which GQA's images are, shares 51,498 images with
COCO's train2014 and val2014 (https://arxiv.org/abs/1602.07332). Karpathy's `val` and `test` are
parts of val2014, and so is val2017; train2017 and Karpathy's `restval` hold the rest of it.
"""

from collections.abc import Iterable

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
