"""The model card of a merge."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.markup import markdown
from evaluation.card import asked_as, header, result, score_table, usage
from merging.algebra.modes import MODES
from merging.inputs import Inputs
from merging.request import MergeRequest
from tasks.registry import get_task

_SETTINGS = {"density": "density", "t": "t", "weights": "weights"}  # option -> field of Options
_SAID = ("missing", "trim_scope", "rank", "save_dtype", "onto", "seed", "revision")
_MAX_NEW_TOKENS = 32  # of the code, where no task is known


def merge_card(
    request: MergeRequest,
    summary: Mapping[str, Any],
    sweep: Mapping[str, Any] | None,
    inputs: Inputs,
    *,
    is_adapter: bool,
) -> str:
    """Return the README.md of a merge: what went in, how, what was measured, how it is used.

    Args:
        request: the merge.
        summary: what merge_report.json says, without its modules.
        sweep: what `merging.scores.sweep_grid` recorded; None where scores chose nothing.
        inputs: the base and the adapters.
        is_adapter: whether the card is of an adapter, or of a full model.
    """
    names = [_short(folder) for folder in request.adapters]
    is_merge = len(names) > 1
    made = "merge of" if is_merge else "model with the adapter"
    title = f"{_short(Path(summary['base_model']))}: {made} {' and '.join(names)}"
    scores = list(_scores(summary, sweep))
    head = header(
        title=title,
        base=summary["base_model"],
        revision=inputs.checkpoint.revision,
        relation=("merge" if is_merge else "adapter" if is_adapter else "finetune"),
        tags=[*(["lora"] if is_adapter else []), *(["merge"] if is_merge else [])],
        results=[result(**score) for score in scores],
        more_bases=[str(folder) for folder in request.adapters if _is_on_hub(folder)],
    )
    lines = ["---", head, "---", "", f"# {markdown(title)}", ""]
    kind = "LoRA adapter" if is_adapter else "Full model"
    lines += [f"{kind}, made by PaliTune; its `merge_report.json` says what each input lost.", ""]
    lines += [*_adapters(summary, names), *_method(request, summary)]
    lines += _measured(scores, sweep)
    code = _usage(inputs, is_adapter=is_adapter)
    return "\n".join([*lines, *(["## Use", "", code, ""] if code else [])])


def command(request: MergeRequest, summary: Mapping[str, Any]) -> str:
    """Return the command that makes the same merge again, without the scores that chose it.

    Folders are named as they were given; of an absolute path the last part stands alone.
    """
    base, *names = map(_short, (Path(summary["base_model"]), *request.adapters))
    flags = ["--model_a", "--model_b", *["--adapter"] * len(names)]
    words = ["python", "merge_vlm.py", "--base_model", base]
    words += [word for pair in zip(flags, names, strict=False) for word in pair]
    mode, options = MODES[summary["mode"]], summary["options"]
    words += ["--mode", mode.name, "--lambda", str(options["lam"])]
    for option, field in _SETTINGS.items():
        if getattr(mode, field) is not None:
            value = options[field]
            words += [f"--{option}", str(value) if field != "weights" else _joined(value)]
    words += ["--export", summary["export"]]
    for name in _SAID:
        value, default = getattr(request, name), MergeRequest.__dataclass_fields__[name].default
        if value != default and not (name == "trim_scope" and not mode.trims):
            words += [f"--{name}", str(value)]
    words += ["--normalize"] if request.normalize else []
    words += ["--allow_base_mismatch"] if request.allow_base_mismatch else []
    return shlex.join([*words, "--output", "merged"])


def _joined(weights: Sequence[float]) -> str:
    return ",".join(map(str, weights))


def _adapters(summary: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The table of what went in."""
    weights = summary["options"]["weights"]
    has_weights = MODES[summary["mode"]].weights is not None
    rows = [
        f"| {markdown(name)} | {f'{weight:.4g}' if has_weights else ''} | {row['rank']} | "
        f"`{row['sha256']}` |"
        for name, weight, row in zip(names, weights, summary["inputs"], strict=True)
    ]
    return ["| Adapter | Weight | Rank | SHA-256 |", "| --- | --- | --- | --- |", *rows, ""]


def _method(request: MergeRequest, summary: Mapping[str, Any]) -> list[str]:
    mode, options = MODES[summary["mode"]], summary["options"]
    shown = [("mode", f"{mode.name} ({mode.source})"), ("lambda", options["lam"])]
    shown += [(name, options[name]) for name in ("density", "t") if getattr(mode, name) is not None]
    settings = ", ".join(f"{name} {value}" for name, value in shown)
    return [
        f"Method: {markdown(settings)}.",
        "",
        "```",
        command(request, summary),
        "```",
        "",
    ]


def _scores(
    summary: Mapping[str, Any], sweep: Mapping[str, Any] | None
) -> Iterator[dict[str, Any]]:
    """The scores of the merge, where it chose one on the examples that had no say in that."""
    evaluation = summary.get("evaluation")
    if evaluation is None:
        return
    if sweep is None:
        found = {key: evaluation[key]["merged"] for key in ("scores", "intervals_95")}
        counts = evaluation["num_examples"]
    else:
        found, counts = sweep["confirmed"], sweep["num_confirming"]
    for task, value in found["scores"].items():
        yield {
            "task": task,
            "split": evaluation["splits"][task],
            "metric": evaluation["metrics"][task],
            "value": value,
            "num_examples": counts[task],
            "interval_95": found["intervals_95"][task],
        }


def _measured(scores: Sequence[Mapping[str, Any]], sweep: Mapping[str, Any] | None) -> list[str]:
    if not scores:
        return ["No score of it was measured.", ""]
    note = ["The method was chosen on other examples than these.", ""] if sweep else []
    return [*score_table(scores), *note]


def _usage(inputs: Inputs, *, is_adapter: bool) -> str | None:
    family = inputs.family
    if family is None:
        return None
    asked: dict[str, Any] = {"prompt_template": "{question}", "max_new_tokens": _MAX_NEW_TOKENS}
    for name, settings in list(inputs.prompt_settings.items())[:1]:
        asked = asked_as(get_task(name), family, settings)
    base, revision = inputs.base.name, inputs.checkpoint.revision
    return usage(family, base, revision, asked, is_adapter=is_adapter)


def _is_on_hub(folder: Path) -> bool:
    return not folder.is_absolute() and len(folder.parts) == 2 and not folder.exists()


def _short(folder: Path) -> str:
    """A name as it was given, without the place on this machine."""
    return folder.name if folder.is_absolute() else str(folder)
