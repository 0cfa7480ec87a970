"""What a fine-tuning changed, as a table."""

from collections.abc import Mapping, Sequence
from typing import Any


def comparison(base: Mapping[str, Any], tuned: Mapping[str, Any], names: Sequence[str]) -> str:
    """Markdown with the named figures of two evaluations side by side.

    Args:
        base: metrics.json of the untouched model.
        tuned: that of the deployment model, with `adapter` and `deployment_gap`.
        names: of figures; those that neither has a value for are shown as such.
    """
    lines = [
        f"# {base['provenance']['base_model']} before and after fine-tuning",
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
        f"The adapter by itself has {tuned['metric']} {tuned['adapter']['value']:.2f}; merged into "
        f"the deployment model, which is what is compared here, {tuned['value']:.2f} (gap "
        f"{tuned['deployment_gap']:+.2f}).",
        "",
    ]
    return "\n".join(lines)


def _figure(value: float | None, sign: str = "") -> str:
    return "not available" if value is None else f"{value:{sign}.2f}"
