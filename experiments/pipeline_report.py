"""The table of what a fine-tuning changed."""

from collections.abc import Mapping, Sequence
from typing import Any

from common.markup import markdown
from models.checkpoint import typed_name


def comparison(base: Mapping[str, Any], tuned: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return Markdown with the named figures of two evaluations side by side.

    Args:
        base: metrics.json of the untouched model.
        tuned: that of the deployment model, with `adapter` and `deployment_gap`.
        names: of figures; those that neither has a value for are shown as such.
    """
    lines = [
        f"# {markdown(typed_name(base['provenance']['base_model']))} before and after fine-tuning",
        "",
        f"{tuned['num_examples']} examples of the {tuned['split']} part.",
        "",
        "| Figure | Base | Fine-tuned | Change |",
        "| --- | --- | --- | --- |",
    ]
    for name in names:
        before, after = base["metrics"][name], tuned["metrics"][name]
        change = None if before is None or after is None else after - before
        lines.append(f"| {name} | {_figure(before)} | {_figure(after)} | {_figure(change, '+')} |")
    lines += [
        "",
        f"The adapter by itself has {tuned['metric']} {_figure(tuned['adapter']['value'])}; merged "
        f"into the deployment model, which is what is compared here, {_figure(tuned['value'])} "
        f"(gap {_figure(tuned['deployment_gap'], '+')}).",
        "",
    ]
    return "\n".join(lines)


def _figure(value: float | None, sign: str = "") -> str:
    """Return a figure to four digits: some figures go up to 1, others to 100."""
    return "not available" if value is None else f"{value:{sign}.4g}"
