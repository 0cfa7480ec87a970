"""Options that would change nothing are refused, so that nobody believes that they did."""

from collections.abc import Container, Iterable


def refuse_idle(names: Iterable[str], given: Container[str], why: str) -> None:
    """Refuse options that would change nothing.

    Args:
        names: of options that would not.
        given: names of the options that were given.
        why: the end of the sentence, without its full stop.

    Raises:
        ValueError: there are such options; names them all.
    """
    if idle := [f"--{name}" for name in names if name in given]:
        raise ValueError(f"{' and '.join(idle)} would change nothing: {why}.")
