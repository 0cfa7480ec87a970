"""The options that were typed, and the command that they make again."""

import shlex
from collections.abc import Collection

import click
from click.core import ParameterSource

from evaluation.own_code import module_words


def typed_options() -> set[str]:
    """Return the names of the options that were typed."""
    context = click.get_current_context()
    typed = ParameterSource.COMMANDLINE
    return {name for name in context.params if context.get_parameter_source(name) is typed}


def typed_command(program: str, leave_out: Collection[str]) -> str:
    """Return the command that gives a program the options that were typed, quoted for a shell.

    The options stand in the order of `--help`, so that it does not depend on that of typing; those
    that load code of the user's come last, for code that a run recorded too.

    Args:
        program: the words before the options.
        leave_out: names of options that it shall not have.
    """
    context = click.get_current_context()
    repeated = typed_options() - {*leave_out}
    words = []
    for parameter in context.command.get_params(context):
        if parameter.name in repeated:
            words += _words(parameter, context.params[parameter.name])
    return shlex.join([*program.split(), *words, *module_words()])


def _words(parameter: click.Parameter, value: object) -> list[str]:
    """The words that give one option its value."""
    option = parameter.opts[0]
    if isinstance(value, bool):
        return [option if value else parameter.secondary_opts[0]]
    values = value if isinstance(value, tuple) else (value,)
    return [word for entry in values for word in (option, str(entry))]
