"""`palitune`: every command under one name; the scripts are the same commands."""

import click

from finetuning.training.recipe import Recipe
from palitune.ablate import ablate_command
from palitune.check import check_command
from palitune.command import UserError
from palitune.compare import compare_command
from palitune.configs import configs_command
from palitune.demo import demo_command
from palitune.doctor import doctor_command
from palitune.evaluate import evaluate_command
from palitune.inspect import inspect_command
from palitune.list_runs import runs_command
from palitune.list_tasks import tasks_command
from palitune.merge import merge_command
from palitune.pipeline import pipeline_command
from palitune.predict import predict_command
from palitune.preview import preview_command
from palitune.push import push_command
from palitune.report import report_command
from palitune.scripts import training_command
from palitune.serve import serve_command
from palitune.sources import get_tasks
from palitune.split import split_command
from palitune.train import finetune_command
from palitune.user_modules import load_named, module_options
from tasks.registry import built_in_names, get_task, known_tasks, task_names

_JOINT = "--task "  # then the tasks: what usage lines show as the command


class TrainGroup(click.Group):
    """`train TASK ...`; and `train --task A,B ...`, a command made for just these tasks."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take `--task A,B`, wherever it stands among the options, for the name of a command."""
        load_named(args)
        if args and args[0].startswith("-"):
            reader = click.Command(self.name, params=self.params, add_help_option=False)
            found = reader.make_context(
                ctx.info_name,
                list(args),
                parent=ctx.parent,
                ignore_unknown_options=True,
                allow_extra_args=True,
            )
            if found.params["task"] is not None:
                args = ["--", f"{_JOINT}{found.params['task']}", *found.args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of one task, or of those that `--task` names."""
        try:
            if not cmd_name.startswith(_JOINT):
                return self._command_of(ctx, cmd_name)
            tasks = get_tasks(cmd_name.removeprefix(_JOINT))
        except ValueError as error:
            raise UserError(str(error)) from error
        return finetune_command(",".join(task.name for task in tasks), Recipe())

    def _command_of(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return the command of a task, whose code is loaded first where it is a package's."""
        if name not in built_in_names() and name not in task_names():
            by_alias = {alias: task.name for task in known_tasks() for alias in task.aliases}
            name = by_alias.get(name, name)
        if name in built_in_names() or name not in task_names():
            return super().get_command(ctx, name)
        return training_command(get_task(name).name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all tasks, those of the user's code and of packages too."""
        return sorted({*super().list_commands(ctx), *task_names()})


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="palitune")
def palitune() -> None:
    """Fine-tune vision-language models per task and score them by each task's official metric."""


@palitune.group(cls=TrainGroup)
@click.option(
    "--task",
    metavar="A,B",
    help="In place of a command: one adapter for several tasks, comma between.",
)
def train(task: str | None) -> None:
    """Fine-tune on a task, or on several at once.

    `palitune train TASK --help` and `palitune train --task A,B --help` list the options.
    """


train.params += module_options()
for _task in built_in_names():
    train.add_command(training_command(_task))

palitune.add_command(ablate_command())
palitune.add_command(evaluate_command())
palitune.add_command(compare_command())
palitune.add_command(predict_command())
palitune.add_command(serve_command())
palitune.add_command(report_command())
palitune.add_command(runs_command())
palitune.add_command(merge_command())
palitune.add_command(push_command())
palitune.add_command(pipeline_command())
palitune.add_command(configs_command())
palitune.add_command(split_command())
palitune.add_command(check_command())
palitune.add_command(preview_command())
palitune.add_command(inspect_command())
palitune.add_command(doctor_command())
palitune.add_command(demo_command())
palitune.add_command(tasks_command())


if __name__ == "__main__":
    palitune()
