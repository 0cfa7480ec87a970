"""The header of a command: what it will do, said before the slow libraries are loaded."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from common import processes
from common.terminal_table import align

if TYPE_CHECKING:
    from evaluation.request import EvaluationRequest
    from experiments.ablation import Ablation
    from experiments.grid_runs import Run
    from experiments.pipeline_config import Settings
    from finetuning.training.job import Job
    from merging.request import MergeRequest


def announce_training(job: "Job", *, is_rehearsal: bool = False) -> None:
    """Say what is trained, on what, and where it goes."""
    names = " and ".join(pair.task.name for pair in job.tasks)
    doing = f"Fine-tune on {names}, then score."
    if is_rehearsal:
        doing = f"Try a few steps of fine-tuning on {names}; nothing is written."
    elif job.recipe.skip_evaluation:
        doing = f"Fine-tune on {names}, without scoring."
    output = None if is_rehearsal else job.output_dir
    metrics = ", ".join(dict.fromkeys(pair.task.metric for pair in job.tasks))
    _announce(doing, {"model": job.model_path, "metric": metrics, "output": output})


def announce_evaluation(request: "EvaluationRequest") -> None:
    """Say what is scored, and by what."""
    what, model = "a file of predictions", None
    if request.model is not None:
        what, model = "a model", request.model.path
        if request.model.without_adapter:
            what, model = "a base without its adapter", f"the base of {model}"
    _announce(
        f"Score {what} on {request.task.name}.",
        {
            "model": model,
            "predictions": request.predictions,
            "metric": request.task.metric,
            "output": request.output_dir,
        },
    )


def announce_merge(request: "MergeRequest") -> None:
    """Say what is merged, and into what."""
    number = len(request.adapters)
    doing = "Merge an adapter into its base" if number == 1 else f"Merge {number} adapters"
    facts: dict[str, object] = {"base": request.base_model}
    facts["adapters"] = ", ".join(map(str, request.adapters))
    facts["scored on"] = ", ".join(pair.task.name for pair in request.trial.tasks) or None
    facts["output"] = request.output
    _announce(f"{doing}{'' if request.output else '; nothing is written'}.", facts)


def announce_grid(ablation: "Ablation", grid: "Sequence[Run]") -> None:
    """Say how many runs there are, of what, and where they go."""
    num_bases = sum(run.is_base for run in grid)
    facts: dict[str, object] = {
        "models": ", ".join(model.name for model in ablation.models),
        "variants": ", ".join(variant.name for variant in ablation.lora_variants),
        **{axis.name: " ".join(", ".join(map(str, axis.values)).split()) for axis in ablation.axes},
        "seeds": ", ".join(map(str, ablation.seeds)) or None,
        "output": ablation.folder,
    }
    bases = f", and score {num_bases} base{'s'[: num_bases > 1]}" if num_bases else ""
    _announce(f"Train and score a grid of {len(grid) - num_bases} runs{bases}.", facts)


def announce_pipeline(settings: "Settings", text: str) -> None:
    """Say which step is taken, of which model and data set."""
    facts = {"model": settings.model_id, "data set": settings.dataset, "folder": settings.root}
    _announce(text, facts)


def _announce(doing: str, facts: Mapping[str, object]) -> None:
    if processes.rank() == 0:
        rows = [[name, str(fact)] for name, fact in facts.items() if fact is not None]
        click.echo(f"{doing}\n{align(rows, left=(0, 1), indent=2)}", file=sys.stderr)
