"""The command behind `make demo`."""

from pathlib import Path

import click

from palitune.command import Command, Option, say


def demo_command() -> click.Command:
    """Return the command `palitune demo`."""
    return Command(
        "demo",
        params=[
            Option(
                ["--output_dir"],
                type=click.Path(path_type=Path),
                default=Path("runs/demo"),
                show_default=True,
                help="Write the runs to this folder; the runs of an earlier demo are replaced.",
            ),
            Option(
                ["--max_steps"],
                type=click.IntRange(min=1),
                help="Take this many steps per task, for a quick try.",
            ),
        ],
        callback=_demo,
        help="Fine-tune the embedded tiny model on each embedded data set and score it.",
    )


def _demo(output_dir: Path, max_steps: int | None) -> None:
    from experiments.demo import check_demo_folder, run_demo

    check_demo_folder(output_dir)
    run_demo(output_dir, max_steps, say)
