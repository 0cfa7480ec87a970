"""The command that brings a run or a merge to the Hugging Face Hub; the options that do so too."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from common import processes
from palitune.command import Command, Option

if TYPE_CHECKING:
    from finetuning.training.upload import Upload

_NUM_NAMED = 5


def push_command() -> click.Command:
    """Return the command that pushes a folder; it loads neither model nor data."""
    return Command(
        "push",
        params=[
            click.Argument(["run"], type=click.Path(path_type=Path)),
            click.Argument(["repo"]),
            _private_option(),
            Option(
                ["--with_report"],
                is_flag=True,
                help="Send the report.html of each evaluation too; it holds images of the data.",
            ),
            Option(
                ["--dry_run"],
                is_flag=True,
                help="List the files with their sizes and what is left out, and send nothing.",
            ),
        ],
        callback=_push,
        help="Push a finished run or a merge to a model repository of the Hugging Face Hub, in one "
        "commit. RUN is its folder and REPO a name such as me/paligemma-vqav2; the repository is "
        "made where it is missing, and other files in it stay.",
    )


def push_options() -> list[click.Parameter]:
    """Return the options by which a command pushes what it has made."""
    return [
        Option(
            ["--push_to_hub"],
            group="Hub",
            metavar="REPO",
            help="Send the outcome to this model repository of the Hub at the end, such as "
            "me/paligemma-vqav2.",
        ),
        _private_option("Hub"),
    ]


def prepare_push(values: Mapping[str, Any]) -> Callable[[Path], None]:
    """Check, before any work, that the outcome of a command can be pushed where it is asked for.

    Args:
        values: of every option of the command.

    Returns:
        What pushes the folder that it is given; it does nothing where nothing was asked for.

    Raises:
        ValueError: an option would change nothing, or the user may not write there.
        RuntimeError: the Hub cannot be reached.
    """
    repo, private = values["push_to_hub"], values["private"]
    if repo is None:
        if private:
            raise ValueError("--private is of --push_to_hub, which names no repository; pass it.")
        return lambda _: None
    for name in ("dry_run", "skip_training"):
        if values.get(name):
            raise ValueError(f"--{name} makes nothing that --push_to_hub could send; leave it out.")
    if processes.rank() > 0:
        return lambda _: None
    from common.hub_upload import check_access

    check_access(repo, private=private)

    def push(folder: Path) -> None:
        from finetuning.training.upload import plan_upload

        try:
            _send(plan_upload(folder), repo, private)
        except (ValueError, RuntimeError) as error:
            words = ["palitune", "push", str(folder), repo, *(["--private"] if private else [])]
            kind = ValueError if isinstance(error, ValueError) else RuntimeError
            raise kind(
                f"{str(error).rstrip('.')}; {folder} is whole, and `{shlex.join(words)}` pushes it."
            ) from error

    return push


def _push(run: Path, repo: str, private: bool, with_report: bool, dry_run: bool) -> None:
    from common.hub_upload import check_access, check_repo
    from finetuning.training.upload import plan_upload

    check_repo(repo)
    upload = plan_upload(run, with_report=with_report)
    if not dry_run:
        check_access(repo, private=private)
        return _send(upload, repo, private)
    click.echo(upload.describe())
    return click.echo(f"Nothing was sent to {repo}, as --dry_run asks.")


def _send(plan: "Upload", repo: str, private: bool) -> None:
    from common.hub_upload import upload

    click.echo(plan.describe())
    address, others = upload(plan.files, repo, private=private)
    if others:
        more = f" and {len(others) - _NUM_NAMED} more" if len(others) > _NUM_NAMED else ""
        click.echo(f"Other files of {repo} stay: {', '.join(others[:_NUM_NAMED])}{more}.")
    click.echo(f"Pushed {len(plan.files)} files to {address}")


def _private_option(group: str = "General") -> Option:
    return Option(
        ["--private"],
        group=group,
        is_flag=True,
        help="Keep a repository that is made on the Hub to yourself.",
    )
