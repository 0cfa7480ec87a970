"""COCO Captions: one sentence about a photograph; five or more human captions each.

Files: https://cocodataset.org/#download; Karpathy's splits: dataset_coco.json of
https://cs.stanford.edu/people/karpathy/deepimagesent/. Prompt, beams and caption sampling: the
PaliGemma transfer, big_vision/configs/proj/paligemma/transfers/cococap.py.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tasks.base import (
    Dataset,
    Example,
    ImageRef,
    MissingSplit,
    Scores,
    Source,
    Task,
    Turn,
)
from tasks.checks import name_some
from tasks.faults import Fault
from tasks.files import find_files, image_finder, local_root
from tasks.hub import HubTable, column_names, is_hub_copy, open_hub_copy
from tasks.hub_download import HubCopy
from tasks.records import note, read_records, unique, with_inner_images
from tasks.text_scoring import score_captions

_KARPATHY = {
    "karpathy_train": ("train", "restval"),  # the usual training set: 113,287 images
    "karpathy_val": ("val",),
    "karpathy_test": ("test",),
}
# One row per caption; its training split holds images of the official val, so none of its splits
# may go by an official name.
_HUB = {
    "karpathy_train": HubCopy("bitmind/MS-COCO", "train"),
    "karpathy_val": HubCopy("bitmind/MS-COCO", "validation"),
    "karpathy_test": HubCopy("bitmind/MS-COCO", "test"),
}
_COLUMNS = {
    "image_id": ("cocoid", "image_id"),
    "captions": ("sentences", "captions", "caption", "answer"),
}


class Image(msgspec.Struct, frozen=True):
    """An image of the official files."""

    id: int
    file_name: str


class Caption(msgspec.Struct, frozen=True):
    """A caption of the official files, where those of an image do not stand together."""

    image_id: int
    caption: str


class Sentence(msgspec.Struct, frozen=True):
    """A caption of Karpathy's file."""

    raw: str


class KarpathyImage(msgspec.Struct, frozen=True):
    """An image of Karpathy's file, whose `imgid` is not the COCO id."""

    cocoid: int
    filepath: str
    filename: str
    split: str
    sentences: tuple[Sentence, ...]


class HubCaptions(msgspec.Struct, frozen=True):
    """A row of a Hub copy: one caption or all of an image."""

    image_id: int
    captions: str | Sentence | list[str | Sentence]


class Row(msgspec.Struct, frozen=True):
    """An image and its captions as published."""

    image_id: int
    captions: tuple[str, ...]
    image: ImageRef


class CocoCaptioning(Task):
    """Image captioning, scored by CIDEr over the whole split."""

    name = "coco_captioning"
    aliases = ("captioning", "coco")
    metric = "CIDEr"
    columns = column_names(HubCaptions)
    metric_range = 10.0
    max_new_tokens = 48
    num_beams = 2
    prompts: ClassVar = {
        "paligemma": "caption en",
        "default": "Describe the image in one sentence.",
    }
    train_splits = ("train", "karpathy_train")
    eval_splits = ("val", "karpathy_val", "karpathy_test")
    hidden_splits = ("test",)
    official_files = r"captions_(train|val)\d*\.json|image_info_test.*\.json|dataset_coco\.json"
    rule = "CIDEr (CIDEr-D) over the whole split, after the PTB tokenizer"
    rule_source = "https://github.com/tylin/coco-caption, through pycocoevalcap"
    result_keys = ("image_id", "caption")

    def load(self, split: str, source: Source) -> Dataset:
        """Read the official files, Karpathy's file or a Hub copy."""
        self.check_split(split)
        wanted = f"coco_captioning split '{split}'"
        if is_hub_copy(source):
            table = open_hub_copy(source, _HUB.get(split), wanted, _COLUMNS)
            return Dataset(self, split, _hub_rows(table))
        if split in _KARPATHY:
            return Dataset(self, split, _karpathy_rows(source, split, wanted))
        path = _with_images(source, _official_files(source, split))
        return Dataset(self, split, _official_rows(source, path), _subset(path))

    def load_to_score(self, split: str, source: Source, answered: Collection[Any]) -> Dataset:
        """Load as in Task; of the files of several years the one whose images were captioned."""
        if is_hub_copy(source) or split not in ("train", "val", "test"):
            return self.load(split, source)
        without_images = replace(source, with_images=False)

        def agreement(path: Path) -> tuple[bool, int, int]:
            rows = _official_rows(without_images, path)
            return _agreement({row.image_id for row in rows}, answered)

        paths = _official_files(source, split)
        path = max(paths, key=agreement) if len(paths) > 1 else paths[0]
        return Dataset(self, split, _official_rows(source, path), _subset(path))

    def example(self, row: Row) -> Example:
        """Make the example of an image; there is no question."""
        return Example(
            example_id=row.image_id,
            image=row.image,
            turns=(Turn("user", ""),),
            references=row.captions,
        )

    def results_name(self, dataset: Dataset) -> str:
        """Return the official pattern, with our name in the place of the algorithm's."""
        return f"captions_{dataset.official_name}_palitune_results.json"

    def working(self, prediction: str, references: Sequence[str]) -> Sequence[str]:
        """Explain by the n-grams that the caption shares with each reference."""
        from tasks.metrics.captioning import explain

        return explain(prediction, references)

    def score(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score with the official tool chain; CIDEr of each image depends on the whole split."""
        return score_captions(predictions, examples)

    def score_headline(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score by CIDEr without METEOR and SPICE, whose programs take long to start."""
        return score_captions(predictions, examples, headline_only=True)


def _agreement(ids: set[int], answered: Collection[Any]) -> tuple[bool, int, int]:
    """Rate how well the images of a file are those with a prediction; more is better."""
    return ids == set(answered), len(ids.intersection(answered)), -len(ids)


def _official_files(source: Source, split: str) -> list[Path]:
    """The split's files of every year; `captions_val.json` where none is named by a year."""
    stem = "image_info_test" if split == "test" else f"captions_{split}"
    year = "20[0-9][0-9]"  # nothing behind it: results of the server are named so as well
    names = (f"{stem}{year}.json", f"{stem}.json", f"{stem}-dev{year}.json")
    patterns = [f"{folder}{name}" for name in names for folder in ("annotations/", "")]
    return find_files(local_root(source), patterns, f"coco_captioning split '{split}'")


def _with_images(source: Source, paths: Sequence[Path]) -> Path:
    """The first file whose images are there: 2014 and 2017 unpack into one folder."""
    root = local_root(source)
    for path in paths:
        if any((root / folder).is_dir() for folder in _image_folders(_subset(path))):
            return path
    return paths[0]


def _official_rows(source: Source, path: Path) -> list[Row]:
    own = replace(source, faults=None if source.faults is None else [])
    kinds = {"images": Image, "annotations": Caption}
    content = read_records(path, kinds, source, optional={"annotations": own})
    images = unique(content["images"], lambda image: image.id, path, source)
    images = with_inner_images(images, lambda i: i.file_name, lambda i: i.id, path, source)
    captions = _captions(path, images, content["annotations"], source)
    images = _captioned(path, images, captions, source, own.faults or [])
    folders = (*_image_folders(_subset(path)), "images")
    find = image_finder(source, folders, (image.file_name for image in images))
    return [Row(i.id, tuple(captions[i.id]), find(i.file_name)) for i in images]


def _captions(
    path: Path, images: Sequence[Image], annotations: Sequence[Caption], source: Source
) -> dict[int, list[str]]:
    """The captions of each image; those of images with a fault are left out."""
    captions: dict[int, list[str]] = {image.id: [] for image in images}
    for annotation in annotations:
        if annotation.image_id in captions:
            captions[annotation.image_id].append(annotation.caption)
        elif not source.faults:
            raise ValueError(f"{path} has a caption of image {annotation.image_id}, not listed.")
    return captions


def _captioned(
    path: Path,
    images: Sequence[Image],
    captions: Mapping[int, Sequence[str]],
    source: Source,
    unread: Sequence[Fault],
) -> list[Image]:
    """The images that have captions; `unread` are captions that have a fault."""
    reasons = {fault.id: fault.reason for fault in unread}
    if lost := [fault for fault in unread if fault.id not in captions]:
        raise ValueError(f"{path} has a caption of no image, {lost[0].id}: {lost[0].reason}")
    without = [key for key, texts in captions.items() if not texts and key not in reasons]
    if path.name.startswith("image_info"):
        without = []
    if without and source.faults is None:
        raise ValueError(
            f"{path} has {len(without)} image(s) without a caption: {name_some(without)}."
        )
    reasons |= dict.fromkeys(without, "The image has no caption.")
    for key, reason in reasons.items():
        note(source, key, path, ValueError(reason))
    return [image for image in images if image.id not in reasons]


def _subset(path: Path) -> str:
    """`val2014` of `captions_val2014.json`: what the official image folder is called."""
    return path.stem.rpartition("_")[2]


def _image_folders(subset: str) -> tuple[str, ...]:
    return (subset, f"images/{subset}", f"Images/{subset}", f"Images/mscoco/{subset}")


def _karpathy_rows(source: Source, split: str, wanted: str) -> list[Row]:
    patterns = ("dataset_coco.json", "annotations/dataset_coco.json")
    (path,) = find_files(local_root(source), patterns, wanted)
    images = read_records(path, {"images": KarpathyImage}, source)["images"]
    images = [image for image in images if image.split in _KARPATHY[split]]
    if not images:
        raise MissingSplit(f"{path} lists no image of {' or '.join(_KARPATHY[split])}.")
    images = unique(images, lambda image: image.cocoid, path, source)
    for name_of in (lambda i: i.filepath, lambda i: i.filename):
        images = with_inner_images(images, name_of, lambda i: i.cocoid, path, source)
    finders = {
        folder: image_finder(
            source,
            (*_image_folders(folder), "images"),
            (image.filename for image in images if image.filepath == folder),
        )
        for folder in {image.filepath for image in images}
    }
    return [
        Row(i.cocoid, tuple(s.raw for s in i.sentences), finders[i.filepath](i.filename))
        for i in images
    ]


def _hub_rows(table: HubTable) -> list[Row]:
    captions: dict[int, list[str]] = {}
    images: dict[int, ImageRef] = {}
    image = table.images()
    for index, row in enumerate(table.rows(HubCaptions)):
        texts = row.captions if isinstance(row.captions, list) else [row.captions]
        images.setdefault(row.image_id, image(index))
        captions.setdefault(row.image_id, []).extend(
            text.raw if isinstance(text, Sentence) else text for text in texts
        )
    return [Row(key, tuple(texts), images[key]) for key, texts in captions.items()]
