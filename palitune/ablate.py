"""The command that runs a grid of models, LoRA variants, swept settings and seeds."""

from collections.abc import Sequence
from pathlib import Path

import click

from palitune.command import Command, ExistingFile, Option, say
from palitune.headers import announce_grid
from palitune.scripts import check_evaluation, parse_job, parse_recipe
from palitune.user_modules import module_options


def ablate_command() -> click.Command:
    """Return the command behind `palitune ablate`."""
    return Command(
        "ablate",
        params=[
            Option(
                ["--config"],
                required=True,
                type=ExistingFile(),
                help="Read the grid from this YAML file; `palitune configs` writes an example, "
                "configs/vlm_ablation.yaml.",
            ),
            *module_options(),
            Option(
                ["--only"],
                multiple=True,
                metavar="NAME",
                help="Run only this model, variant, task, value such as lora_rank=16, or run; may "
                "be repeated.",
            ),
            Option(["--resume"], is_flag=True, help="Resume runs that were interrupted."),
            Option(
                ["--dry_run"],
                is_flag=True,
                help="List the runs and their commands without running.",
            ),
            Option(
                ["--ray"],
                is_flag=False,
                flag_value="local",
                metavar="[ADDRESS]",
                help="Send the runs to the Ray cluster at this address, or start one here.",
            ),
            Option(
                ["--ray_gpus"],
                type=float,
                help="Take this many GPUs, or a share of one, for each run on Ray "
                "[default: 1 where the cluster has any].",
            ),
            Option(
                ["--ray_cpus"],
                type=float,
                help="Take this many processors for each run on Ray [default: 1].",
            ),
        ],
        callback=_ablate,
        help="Train and score models x LoRA variants, over swept settings and seeds. Finished runs "
        "are not run again; one that fails is recorded and the others go on (exit code 1).",
    )


def _ablate(
    config: Path,
    only: Sequence[str],
    resume: bool,
    dry_run: bool,
    ray: str | None,
    ray_gpus: float | None,
    ray_cpus: float | None,
) -> None:
    from experiments.ablation import read_ablation
    from experiments.base_scores import base_runs
    from experiments.grid import Commands, GridRequest, run_grid
    from experiments.grid_runs import runs
    from experiments.ray_runs import RaySettings

    if ray is None and (ray_gpus, ray_cpus) != (None, None):
        raise ValueError("--ray_gpus and --ray_cpus are for runs on Ray; add --ray.")
    place = None if ray is None else RaySettings(ray, ray_gpus, 1 if ray_cpus is None else ray_cpus)
    request = GridRequest(only=only, resume=resume, dry_run=dry_run, ray=place)
    ablation = read_ablation(config)
    trainings = runs(ablation)
    grid = [*base_runs(ablation, trainings, parse_recipe), *trainings]
    announce_grid(ablation, grid)
    commands = Commands(parse_job=parse_job, check_evaluation=check_evaluation)
    if not run_grid(ablation, grid, request, commands, say):
        click.get_current_context().exit(1)
