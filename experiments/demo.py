"""The demo: the embedded model fine-tuned and scored on every task with embedded data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import msgspec

from common.json_files import read_json, write_json
from common.progress import Bar
from common.terminal_table import align
from evaluation.baselines import most_frequent_answer
from evaluation.index_page import INDEX
from evaluation.prediction import make_predictor
from evaluation.prompting import make_prompter
from evaluation.request import EvaluationRequest, ModelRequest
from evaluation.run import evaluate as run_evaluation
from experiments.demo_pages import BASE, write_demo_pages
from finetuning.training.job import Job, load_data
from finetuning.training.recipe import Recipe
from finetuning.training.run import finetune
from merging.algebra.base import open_base
from merging.algebra.merge import start_merge
from merging.algebra.modes import default_options
from merging.algebra.reader import read_adapter
from merging.tables import score_table
from merging.trial import Candidate, Trial, retention
from models.checkpoint import resolve
from models.loading import load_model
from tasks.base import Dataset, Example, Task, TaskSource
from tasks.registry import built_in_names, get_task
from tasks.report import Predict, evaluate
from tasks.sample import sample_source

# One to three minutes a task on two cores. The tiny model bears a higher rate than a 3B one.
RECIPE = Recipe(
    max_steps=160,
    batch_size=32,
    learning_rate=5e-3,
    lora_dropout=0.0,
    eval_batch_size=100,
    max_eval_samples=300,
    num_workers=0,  # so small an image is read more quickly than it is handed over
)
# What a task has otherwise. Reading the pages is learned late and at once: in fewer steps, or with
# the tower that sees frozen, the score hung on the seed.
_OTHERWISE: dict[str, dict[str, Any]] = {
    "coco_captioning": {"max_steps": 120},
    "docvqa": {
        "max_steps": 1000,
        "batch_size": 16,
        "learning_rate": 2e-3,
        "warmup_ratio": 0.1,
        "lora_vision": True,
    },
    "gqa": {"max_steps": 240, "warmup_ratio": 0.1},
    "vqav2": {"max_steps": 120},
    "digits": {"max_steps": 140},
}
_SUMMARY = "summary.json"
MERGED = ("gqa", "vqav2")
MERGE_MODES = ("balanced", "ties")


def check_demo_folder(folder: Path) -> None:
    """Raise ValueError where a folder holds something else than an earlier demo."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _SUMMARY).is_file():
        raise ValueError(
            f"--output_dir {folder} is not empty and no demo's folder; give another one."
        )


def run_demo(output_dir: Path, max_steps: int | None, say: Callable[[str], None]) -> None:
    """Fine-tune and score the embedded model on every task, then merge two of the adapters.

    Args:
        output_dir: takes a run folder per task and summary.json.
        max_steps: of each task; the demo's own where None.
        say: takes each piece of text for the terminal.
    """
    write_json(output_dir / _SUMMARY, {"tasks": []})
    rows, notes = [], []
    names = demo_tasks()
    with Bar("demo", len(names) + 1, "parts", is_long=True) as bar:
        for name in names:
            say(f"\n== {name}")
            recipe = make_recipe(name, max_steps)
            row, task_notes = run_task(get_task(name), recipe, output_dir / name)
            rows.append(row)
            notes += [f"{name}: {note}" for note in task_notes]
            say(table([row]))
            bar.advance()
        say(f"\n== merging {' and '.join(MERGED)}")
        merged = merge_two(output_dir)
        bar.advance()
    write_json(output_dir / _SUMMARY, {"tasks": rows, "merge": merged})
    metrics = {name: get_task(name).metric for name in MERGED}
    scores = {"base": merged["base"], **merged["scores"]}
    merge_table = score_table(metrics, scores, merged["retention"])
    counts = " and ".join(f"{count} of {name}" for name, count in merged["num_examples"].items())
    heading = f"merged adapters, on {counts}; own is each adapter alone on the same examples"
    say("\n" + "\n".join([table(rows), *notes, "", heading, merge_table]))
    write_demo_pages(output_dir, rows)
    say(f"\nAdapters, predictions and model cards are in {output_dir}.")
    say(f"All scores, with every answer of base and fine-tuned: {output_dir / INDEX}")


def make_recipe(name: str, max_steps: int | None = None) -> Recipe:
    """Return a task's recipe; for a quick try with fewer steps."""
    recipe = replace(RECIPE, **_OTHERWISE.get(name, {}))
    return recipe if max_steps is None else replace(recipe, max_steps=max_steps)


def demo_tasks() -> list[str]:
    """Return the tasks with embedded data: all but those of the user's own files."""
    tasks = map(get_task, built_in_names())
    return [task.name for task in tasks if not (task.reads_tables or task.own_files)]


def run_task(
    task: Task, recipe: Recipe, output_dir: Path
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Score the base, fine-tune it, score it again, and again on other examples' images.

    Returns:
        A row of summary.json, and what must be said beside it (that a score is approximate).
    """
    pair = TaskSource(task, sample_source(task))
    job = Job(
        tasks=(pair,),
        model_path="tiny",
        recipe=recipe,
        output_dir=output_dir,
        overwrite=True,
        settings={"model_path": "tiny", "data_root": "sample"},
    )
    train_data, eval_data = load_data(pair, recipe)
    assert eval_data is not None
    (report,) = finetune(job)
    assert report.scores is not None
    tuned = _predictor(task, recipe, str(output_dir))
    row = {
        "task": task.name,
        "metric": task.metric,
        "base": _score_base(pair, recipe, output_dir / BASE),
        "finetuned": report.value,
        "shuffled": _headline(task, lambda e: tuned(shuffle_images(e)), eval_data),
        "majority": majority(task, train_data, eval_data),
        "num_eval": len(eval_data),
        "train_seconds": _train_seconds(output_dir),
    }
    return row, report.scores.notes


def _score_base(pair: TaskSource, recipe: Recipe, folder: Path) -> float | None:
    """Evaluate the untouched model on the examples that the tuned one is scored on."""
    request = EvaluationRequest(
        task=pair.task,
        source=pair.source,
        model=ModelRequest(path="tiny", quantization=recipe.quantization),
        max_eval_samples=recipe.max_eval_samples,
        seed=recipe.seed,
        num_workers=recipe.num_workers,
        batch_size=recipe.eval_batch_size,
        output_dir=folder,
    )
    result = run_evaluation(request)
    assert result is not None, "a demo is one process"
    return result.report.value


def merge_two(output_dir: Path, num_examples: int = 100) -> dict[str, Any]:
    """Merge two of the adapters and score the result on both tasks, in memory.

    Args:
        output_dir: of the demo; the scores of the base and of each adapter alone are taken from
            their predictions there.
        num_examples: of each task.

    Returns:
        The entry `merge` of summary.json: scores on these examples, and what share of the
        adapter's own is left.
    """
    trial = sample_trial(MERGED, num_examples)
    adapters = [read_adapter(output_dir / name) for name in MERGED]
    candidates = []
    for mode in MERGE_MODES:
        merge = start_merge(adapters, mode, default_options(mode, len(adapters)))
        candidates.append(Candidate(mode, "original", list(merge.modules), merge.dense))
    own, base = {}, {}
    for dataset in trial.datasets:
        folder = output_dir / dataset.task.name
        own[dataset.task.name] = _score_of_some(folder / "evaluation" / dataset.split, dataset)
        base[dataset.task.name] = _score_of_some(folder / BASE, dataset)
    scores = {"own": own, **trial.scores(candidates)}
    return {
        "tasks": list(MERGED),
        "num_examples": {dataset.task.name: len(dataset) for dataset in trial.datasets},
        "base": base,
        "scores": scores,
        "retention": retention(scores, {name: ["own"] for name in MERGED}),
    }


def sample_trial(names: Sequence[str], num_examples: int | None) -> Trial:
    """Make a trial of the embedded model on tasks of the embedded data.

    Args:
        names: of the tasks.
        num_examples: of each, held out; all of them where None.
    """
    datasets = [
        task.load(task.eval_splits[0], sample_source(task)).subset(num_examples, seed=0)
        for task in map(get_task, names)
    ]
    return Trial(
        checkpoint=resolve("tiny"),
        base=open_base("tiny"),
        datasets=datasets,
        settings={},
        batch_size=RECIPE.eval_batch_size,
        device="auto",
    )


def _score_of_some(folder: Path, dataset: Dataset) -> float:
    """A model's score on some of the examples that it was scored on."""
    lines = (folder / "predictions.jsonl").read_bytes().splitlines()
    rows = map(msgspec.json.decode, lines)
    scores = {row["id"]: row["score"] for row in rows}
    return fmean(scores[example.example_id] for example in dataset)


def _train_seconds(output_dir: Path) -> float:
    """Seconds of the training steps alone, as the trainer recorded them."""
    state = read_json(output_dir / "trainer_state.json")
    (seconds,) = [log["train_runtime"] for log in state["log_history"] if "train_runtime" in log]
    return round(float(seconds), 1)


def shuffle_images(examples: Sequence[Example]) -> list[Example]:
    """Give each example the image of another one, along one seeded cycle through all."""
    order = list(range(len(examples)))
    Random(0).shuffle(order)
    other = dict(zip(order, order[1:] + order[:1], strict=True))
    return [
        msgspec.structs.replace(e, image=examples[other[i]].image) for i, e in enumerate(examples)
    ]


def majority(task: Task, train_data: Dataset, eval_data: Dataset) -> float | None:
    """Return the score of always giving the most frequent training answer."""
    answer = most_frequent_answer(task, train_data)
    return _headline(task, lambda examples: [answer] * len(examples), eval_data)


def _headline(task: Task, predict: Predict, eval_data: Dataset) -> float | None:
    return evaluate(task, predict, eval_data, headline_only=True).value


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of summary.json as text for a terminal."""
    scores = ("base", "finetuned", "shuffled", "majority")
    cells = [["task", "metric", *scores, "seconds"]]
    for row in rows:
        shown = [f"{row[name]:.2f}" for name in scores]
        cells.append([row["task"], row["metric"], *shown, f"{row['train_seconds']:.0f}"])
    return align(cells, left=(0, 1), widths=(15, 12, 7))


def _predictor(task: Task, recipe: Recipe, model_path: str) -> Predict:
    loaded = load_model(resolve(model_path), quantization=recipe.quantization)
    prompter = make_prompter(task, loaded.family)
    return make_predictor(loaded.model, task, prompter, batch_size=recipe.eval_batch_size)
