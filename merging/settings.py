"""From a merge request to the settings of its arithmetic."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from merging.algebra.modes import MODES, RankLimit, default_options
from merging.request import MergeRequest
from tasks.base import Task
from tasks.registry import get_task

Settings = dict[str, Any]  # `mode`, and the keywords of `default_options` that are not to default

# What `auto` tries where it can measure: the scale matters more than the method.
AUTO_GRID: tuple[Settings, ...] = (
    {"mode": "linear"},
    *({"mode": mode, "lam": lam} for mode in ("balanced", "tsv") for lam in (0.5, 0.7, 1.0)),
    *({"mode": "ties", "density": density} for density in (0.3, 0.5)),
    {"mode": "dare_ties", "density": 0.5},
    {"mode": "core_ties"},
)
_AXES = {"mode": str, "density": float, "lambda": float, "t": float}
_SETTINGS = {"lambda": "lam", "density": "density", "t": "t", "weights": "weights"}  # as said
_SWEPT = [mode for mode in MODES if mode != "auto"]
_TRIMMING = [row.name for row in MODES.values() if row.trims]


def list_candidates(request: MergeRequest) -> tuple[list[Settings], bool]:
    """List the merges that a request asks for, each checked.

    Beside `--sweep`, and beside `auto` where it measures, a setting with a separate option has
    that value in every candidate whose mode has it.

    Returns:
        One merge, or the candidates, and whether scores are to choose among them.

    Raises:
        ValueError: a value is wrong, or an option contradicts the grid or changes nothing.
    """
    fixed: Settings = request.given_settings
    mode, num_adapters = request.mode, len(request.adapters)
    is_measured = True
    if request.sweep is not None:
        if not request.trial.tasks:
            raise ValueError("--sweep chooses by scores: name the tasks by --evaluate too.")
        if num_adapters < 2:
            raise ValueError("--sweep chooses how adapters are merged; pass two or more.")
        candidates = parse_grid(request.sweep, fixed if mode == "auto" else {"mode": mode, **fixed})
    elif mode == "auto" and request.trial.tasks and num_adapters > 1:
        candidates = _settled(AUTO_GRID, fixed)
    else:
        is_measured = False
        if mode == "auto" and num_adapters == 1:
            mode = "linear"  # of one adapter every mode but the pruning ones is the adapter
        candidates = [{"mode": mode, **fixed}]
    for candidate in candidates:
        default_options(num_adapters=num_adapters, **candidate)
    _check_effects(request, [candidate["mode"] for candidate in candidates])
    return candidates, is_measured


def parse_grid(text: str, fixed: Mapping[str, Any]) -> list[Settings]:
    """Parse `mode=linear,ties density=0.2,0.5 lambda=0.5,1` into the settings of each candidate.

    A setting that a mode does not have is left out of that mode's candidates.

    Args:
        text: the grid.
        fixed: settings that have separate options.

    Raises:
        ValueError: not of this form, an unknown mode or setting, or one that is fixed too.
    """
    axes: dict[str, list[Any]] = {}
    for part in text.split():
        name, equals, choices = part.partition("=")
        key = name.replace("lambda", "lam")
        if name not in _AXES or not equals or key in axes:
            raise ValueError(
                "--sweep takes mode=…, density=…, lambda=… and t=… with blanks between, each once; "
                f"got {part} in '{text}'."
            )
        if key in fixed:
            raise ValueError(
                f"--sweep has {part} and --{name} is given beside it; leave one of them out."
            )
        try:
            axes[key] = [_AXES[name](choice) for choice in choices.split(",")]
        except ValueError as error:
            raise ValueError(f"--sweep takes numbers for {name}, got {choices}.") from error
    for mode in axes.get("mode", [fixed.get("mode")]):
        if mode not in _SWEPT:
            found = "none" if mode is None else f"'{mode}'"
            raise ValueError(
                f"--sweep needs modes out of {', '.join(_SWEPT)}, by mode=… or --mode; got {found}."
            )
    grid = [dict(zip(axes, chosen, strict=True)) for chosen in itertools.product(*axes.values())]
    return _settled(grid, fixed)


def _settled(grid: Sequence[Settings], fixed: Mapping[str, Any]) -> list[Settings]:
    """Each candidate once, with the fixed settings and without those that its mode has not."""
    settled: list[Settings] = []
    asked = [{**candidate, **fixed} for candidate in grid]
    for candidate in asked:
        has = MODES[candidate["mode"]]
        candidate = {
            name: value
            for name, value in candidate.items()
            if name == "mode" or getattr(has, name) is not None
        }
        if candidate not in settled:
            settled.append(candidate)
    modes = dict.fromkeys(candidate["mode"] for candidate in settled)
    for name in dict.fromkeys(name for candidate in asked for name in candidate):
        if not any(name in candidate for candidate in settled):
            raise ValueError(
                f"{name.replace('lam', 'lambda')} would change nothing: none of the candidates' "
                f"modes has it ({', '.join(modes)}); leave it out."
            )
    return settled


def candidate_name(settings: Settings) -> str:
    """Return a candidate's name in tables, such as `ties density=0.3 lambda=1.0`."""
    shown = {name: settings[key] for name, key in _SETTINGS.items() if key in settings}
    if "weights" in shown:
        shown["weights"] = ",".join(map(str, shown["weights"]))
    return " ".join([settings["mode"], *(f"{name}={value}" for name, value in shown.items())])


def _check_effects(request: MergeRequest, modes: Sequence[str]) -> None:
    """Refuse options that would change nothing in merges of these modes."""
    named = ", ".join(dict.fromkeys(modes))
    is_weighted = any(MODES[mode].weights for mode in modes)
    idle = {
        f"--missing renorm is a rule for weights, and {named} has none": (
            request.missing == "renorm" and not is_weighted
        ),
        f"--trim_scope adapter is for {' and '.join(_TRIMMING)}, and the mode is {named}": (
            request.trim_scope == "adapter" and not any(MODES[mode].trims for mode in modes)
        ),
        "--normalize brings adapters to one norm, and there is one adapter": (
            request.normalize and len(request.adapters) == 1
        ),
    }
    for reason, is_idle in idle.items():
        if is_idle:
            raise ValueError(f"{reason}: it would change nothing; leave it out.")


def check_export_effects(request: MergeRequest, exports: set[str]) -> None:
    """Refuse options that would change nothing in what is written.

    Args:
        request: the merge.
        exports: what may be written: adapter, full, both.

    Raises:
        ValueError: there is one.
    """
    if exports == {"full"} and request.rank != "full":
        raise ValueError(
            f"--rank {request.rank} is of a written adapter, and a full model is written: pass "
            "--export adapter or both, or leave it out."
        )
    if exports == {"adapter"} and request.onto == "nf4" and not request.trial.tasks:
        raise ValueError(
            "--onto nf4 is of a full model or of scores, and an adapter alone is written: pass "
            "--export full or both, or --evaluate, or leave it out."
        )


def parse_tasks(text: str | None) -> list[Task]:
    """Parse the tasks of `--evaluate A,B`.

    Raises:
        ValueError: none is named, or one is unknown or there twice.
    """
    if text is None:
        return []
    tasks = [get_task(name.strip()) for name in text.split(",") if name.strip()]
    if not tasks:
        raise ValueError(f"--evaluate takes tasks with commas between, got '{text}'.")
    for task in tasks:
        if tasks.count(task) > 1:
            raise ValueError(f"--evaluate {text} has {task.name} twice; name each task once.")
    return tasks


def parse_rank(text: str) -> RankLimit:
    """Parse `full`, a whole number, or an energy share.

    Raises:
        ValueError: it is none of these.
    """
    if text == "full":
        return "full"
    try:
        rank = float(text)
    except ValueError:
        rank = 0.0
    if text.isdecimal() and rank >= 1:
        return int(text)
    if 0 < rank < 1:
        return rank
    raise ValueError(
        f"--rank takes full, a whole number from 1, or an energy share below 1, got {text}."
    )


def parse_weights(text: str | None) -> list[float] | None:
    """Parse `0.5,0.5` into numbers.

    Raises:
        ValueError: they are none.
    """
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(
            f"--weights takes numbers with commas between, as 0.5,0.5; got {text}."
        ) from error
