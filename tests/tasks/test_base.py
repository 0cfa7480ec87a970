"""The vocabulary: training targets, subsets, splits and the registry."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tasks.base import Dataset, Example, MissingSplit, Source, Turn
from tasks.checks import check_references
from tasks.images import FileImage
from tasks.registry import get_task, task_names
from tasks.splits import resolve_split
from tests.helpers import Load, one_sentence
from tests.official_files import write_coco, write_vqav2

REFERENCES = ("one", "two ", "three", "three", "five")


def example(references: tuple[str, ...] = REFERENCES) -> Example:
    turns = (Turn("user", "?"),)
    return Example(example_id=7, image=FileImage("x.jpg"), turns=turns, references=references)


def targets(seed: int, epochs: range) -> list[str]:
    return [get_task("docvqa").target(example(), epoch, seed) for epoch in epochs]


def test_published_targets_are_drawn_without_replacement() -> None:
    expected = Counter(reference.strip() for reference in REFERENCES)
    assert Counter(targets(0, range(5))) == expected
    assert Counter(targets(0, range(5, 10))) == expected


def test_each_pass_over_the_references_has_an_order_of_its_own() -> None:
    passes = {tuple(targets(0, range(5 * n, 5 * n + 5))) for n in range(6)}
    assert len(passes) > 1


def test_targets_depend_on_the_seed() -> None:
    assert len({tuple(targets(seed, range(5))) for seed in range(6)}) > 1


def test_a_target_is_pure_whatever_was_asked_before() -> None:
    in_order = targets(3, range(10))
    assert [targets(3, range(n, n + 1))[0] for n in reversed(range(10))] == in_order[::-1]


def test_targets_are_the_same_in_another_process() -> None:
    code = (
        "from tests.tasks.test_base import targets; print('|'.join(targets(3, range(10))), end='')"
    )
    command = [sys.executable, "-c", code]
    for hash_seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": "."}
        root = Path(__file__).parents[2]
        done = subprocess.run(command, env=environment, cwd=root, capture_output=True, check=True)
        assert done.stdout.decode() == "|".join(targets(3, range(10)))


def test_majority_and_first_targets() -> None:
    task = get_task("docvqa")
    assert task.target(example(), 4, 0, "majority") == "three"
    assert task.target(example(), 4, 0, "first") == "one"


def test_an_example_without_answers_cannot_be_trained_on() -> None:
    with one_sentence("docvqa example 7 has no answer to train on"):
        get_task("docvqa").target(example(()), 0, 0)


def test_examples_without_references_cannot_be_scored() -> None:
    with one_sentence("docvqa split 'val': 1 of 2 examples have no answer (7)"):
        check_references(get_task("docvqa"), "val", [example(), example(())])


def test_a_blank_answer_is_one_in_a_task_of_ones_own() -> None:
    check_references(get_task("digits"), "val", [example(("",))])
    with one_sentence("1 of 1 examples have no answer (7)"):
        check_references(get_task("docvqa"), "val", [example((" ", ""))])


def test_a_subset_is_seeded_and_keeps_the_order(tmp_path: Path, load: Load) -> None:
    dataset = load("vqav2", "train", write_vqav2(tmp_path, num_train=30))

    def ids(dataset: Dataset) -> list[int | str]:
        return [example.example_id for example in dataset]

    drawn = ids(dataset.subset(10, seed=1))
    assert drawn == ids(dataset.subset(10, seed=1)) == sorted(drawn, key=int)
    assert drawn != ids(dataset.subset(10, seed=2))
    assert len(set(drawn)) == 10
    assert ids(dataset.subset(99, seed=1)) == ids(dataset.subset(None, seed=1)) == ids(dataset)


@pytest.mark.parametrize("number", [0, -3])
def test_a_subset_of_no_example_is_refused(tmp_path: Path, load: Load, number: int) -> None:
    dataset = load("vqav2", "train", write_vqav2(tmp_path))
    with one_sentence(f"must be 1 or more, got {number}"):
        dataset.subset(number, seed=0)


def test_the_default_split_is_taken_without_a_word(tmp_path: Path) -> None:
    task = get_task("coco")
    source = Source(data_root=write_coco(tmp_path))
    dataset, note = resolve_split(task, None, source, task.eval_splits)
    assert (dataset.split, note) == ("val", None)


def test_without_the_default_split_the_next_one_is_taken_and_said(tmp_path: Path) -> None:
    task = get_task("coco")
    source = Source(data_root=write_coco(tmp_path, karpathy=True))
    (tmp_path / "annotations/captions_val2014.json").unlink()
    dataset, note = resolve_split(task, None, source, task.eval_splits)
    assert dataset.split == "karpathy_val"
    assert note == "The default split 'val' is not there, so 'karpathy_val' is taken."


def test_with_no_split_there_the_error_is_that_of_the_default(tmp_path: Path) -> None:
    task = get_task("coco")
    with one_sentence("coco_captioning split 'val'", "captions_val.json", kind=MissingSplit):
        resolve_split(task, None, Source(data_root=tmp_path), task.eval_splits)


def test_a_split_asked_for_by_name_is_not_replaced(tmp_path: Path) -> None:
    task = get_task("coco")
    source = Source(data_root=write_coco(tmp_path))
    with one_sentence("coco_captioning split 'karpathy_val'", kind=MissingSplit):
        resolve_split(task, "karpathy_val", source, task.eval_splits)


@pytest.mark.parametrize("name", task_names())
def test_a_wrong_split_lists_the_right_ones(name: str) -> None:
    task = get_task(name)
    with one_sentence(f"{name} has no split 'trian'", *task.splits):
        task.load("trian", Source())


def test_every_task_is_found_by_name_and_alias() -> None:
    official = {"coco_captioning", "docvqa", "gqa", "vqav2"}
    own = {"conversations", "csv_qa", "frames_chat", "image_qa", "quic360"}
    assert set(task_names()) == official | own | {"digits"}
    assert get_task("csv") is get_task("csv_qa")
    assert get_task("coco") is get_task("captioning") is get_task("coco-captioning")


def test_a_misspelt_task_gets_a_suggestion_and_the_list() -> None:
    with one_sentence("Unknown task 'vqav3'. Did you mean vqav2? Tasks are", "digits"):
        get_task("vqav3")


@pytest.mark.parametrize("name", task_names())
def test_templates_hold_no_other_field_than_the_question(name: str) -> None:
    for template in get_task(name).prompts.values():
        assert template.format(question="Q").count("Q") <= 1
    assert "default" in get_task(name).prompts


def test_importing_the_registry_loads_nothing_heavy() -> None:
    code = "import sys, tasks.registry; print(*sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    heavy = {"torch", "datasets", "numpy", "sklearn", "pycocoevalcap", "Levenshtein"}
    assert not heavy & set(done.stdout.decode().split())


def test_tasks_import_nothing_from_the_layers_above() -> None:
    for path in (Path(__file__).parents[2] / "tasks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            tops = {name.partition(".")[0] for name in names}
            assert not tops & {"torch", "models", "finetuning", "merging", "reporting"}, path
