"""Sample captions: drawn scenes with five captions each, as the files of COCO 2014."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from synthetic.scenes import IMAGE_SIZE, NUMBERS, Scene, render_scene
from tasks.sample.asking import NUM_HELD_OUT, NUM_TRAIN, draw_scene, scene_key
from tasks.sample.files import write_jpeg, write_json
from tasks.sample.grammar import with_article

_INFO = {
    "description": "PaliTune sample captions",
    "url": "",
    "version": "1.0",
    "year": 2014,
    "contributor": "PaliTune",
    "date_created": "2014/01/01",
}
_LICENSES = [{"url": "https://opensource.org/license/mit", "id": 1, "name": "MIT License"}]
_FIRST_IDS = {"train2014": 9, "val2014": 400_042}


def write(root: Path) -> None:
    """Write both splits."""
    train, held_out = make_scenes()
    _write_split(root, "train2014", train)
    _write_split(root, "val2014", held_out)


def make_scenes() -> tuple[list[Scene], list[Scene]]:
    """Make the contents of the training images and of the held-out ones."""
    rng = Random("coco_captioning/held_out")
    held_out = [draw_scene(rng, ()) for _ in range(NUM_HELD_OUT)]
    avoided = {scene_key(scene) for scene in held_out}
    rng = Random("coco_captioning/train")
    return [draw_scene(rng, avoided) for _ in range(NUM_TRAIN)], held_out


def captions(scene: Scene, rng: Random) -> list[str]:
    """Write five captions of a scene, each worded differently, in random order."""
    shapes = _enumerate([with_article(str(shape)) for shape in scene.values()])
    number = NUMBERS[len(scene)]
    count = "there is one shape" if len(scene) == 1 else f"there are {number} shapes"
    texts = [
        f"{rng.choice(('a picture', 'an image'))} with {shapes}",
        f"{count}: {shapes}",
        _places(scene),
        f"this {rng.choice(('drawing', 'photo'))} shows {shapes}",
        f"{shapes} on {rng.choice(('a simple page', 'an empty page'))}",
    ]
    return rng.sample(texts, len(texts))


def _enumerate(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _places(scene: Scene) -> str:
    if len(scene) < 3:
        parts = [f"{with_article(str(shape))} in the {cell}" for cell, shape in scene.items()]
        return _enumerate(parts)
    return _enumerate([f"{shape} {cell}" for cell, shape in scene.items()])


def _write_split(root: Path, split: str, scenes: Sequence[Scene]) -> None:
    rng = Random(f"coco_captioning/{split}/captions")
    drawing_rng = Random(f"coco_captioning/{split}/drawing")
    (root / split).mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, scene in enumerate(scenes, start=_FIRST_IDS[split]):
        images.append(_image(split, image_id))
        write_jpeg(root / split / images[-1]["file_name"], render_scene(scene, drawing_rng))
        for caption in captions(scene, rng):
            annotations.append({"image_id": image_id, "id": 0, "caption": caption})
    rng.shuffle(annotations)  # in the official file, too, those of an image are not together
    for annotation_id, annotation in enumerate(annotations, start=10 * _FIRST_IDS[split]):
        annotation["id"] = annotation_id
    content = {
        "info": _INFO,
        "licenses": _LICENSES,
        "images": images,
        "annotations": annotations,
    }
    write_json(root / "annotations" / f"captions_{split}.json", content)


def _image(split: str, image_id: int) -> dict[str, Any]:
    return {
        "license": 1,
        "file_name": f"COCO_{split}_{image_id:012d}.jpg",
        "coco_url": "",
        "height": IMAGE_SIZE,
        "width": IMAGE_SIZE,
        "date_captured": "2014-01-01 00:00:00",
        "flickr_url": "",
        "id": image_id,
    }
