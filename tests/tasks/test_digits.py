"""Digits: a fixed split of scikit-learn's digits, drawn dark on light."""

from tasks.base import Source
from tasks.registry import get_task


def test_the_split_is_fixed_and_covers_all_1797_digits_once() -> None:
    task = get_task("digits")
    train, val = (task.load(split, Source()) for split in ("train", "val"))
    ids = [example.example_id for dataset in (train, val) for example in dataset]
    assert (len(train), len(val)) == (1400, 397)
    assert sorted(ids) == list(range(1797))
    assert val[0].example_id == task.load("val", Source())[0].example_id


def test_a_digit_is_a_small_image_dark_on_light() -> None:
    example = get_task("digits").load("val", Source())[0]
    image = example.image.open()
    assert (image.size, image.mode) == ((64, 64), "RGB")
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert sum(image.convert("L").histogram()[:64]) > 100  # there is ink


def test_an_example_asks_for_the_digit() -> None:
    example = get_task("digits").load("val", Source())[0]
    assert example.turns[0].text == "which digit is this?"
    assert example.tags == {"digit": example.references}


def test_accuracy_is_in_percent() -> None:
    task = get_task("digits")
    examples = list(task.load("val", Source())[:4])
    predictions = [examples[0].references[0], "x", "", "x"]
    assert task.score(predictions, examples).metrics == {"accuracy": 25}
