"""The embedded data through the tasks: read, complete, and right where it says so."""

from pathlib import Path

import pytest

from tasks.base import Source
from tasks.images import check_dataset
from tasks.registry import get_task
from tasks.sample import WRITERS


@pytest.mark.parametrize("name", WRITERS)
def test_the_task_reads_both_splits_and_finds_every_image(
    roots: dict[str, Path], name: str
) -> None:
    task = get_task(name)
    source = Source(data_root=roots[name])
    for split, number in ((task.train_splits[0], 3000), (task.eval_splits[0], 300)):
        dataset = task.load(split, source)
        assert len(dataset) == number
        check_dataset(dataset)


def test_true_answers_get_every_gqa_figure(roots: dict[str, Path]) -> None:
    dataset = get_task("gqa").load("testdev_all", Source(data_root=roots["gqa"]))
    examples = list(dataset)
    metrics = dataset.task.score([example.references[0] for example in examples], examples).metrics
    assert {name: value for name, value in metrics.items() if name != "distribution"} == {
        name: 100.0
        for name in ("accuracy", "binary", "open", "consistency", "validity", "plausibility")
    }
    assert metrics["distribution"] == 0
