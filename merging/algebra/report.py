"""The report of a merge: merge_report.json, a table, and warnings."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from common.terminal_table import align
from merging.algebra.adapters import Adapter
from merging.algebra.core import cosines
from merging.algebra.low_rank import LowRank
from merging.algebra.merge import Merge

_MAX_NORM_RATIO = 3.0
_MIN_RETENTION = 0.3
_MIN_ENERGY = 0.95
_MIN_COSINE = -0.2
_NUM_WORST = 5


def describe_adapters(adapters: Sequence[Adapter]) -> list[dict[str, Any]]:
    """Return each adapter's path, hash, base and training.

    `target_modules` is as the adapter has it; `other_ranks` and `other_alphas` are of the modules
    that have others than the adapter in general.
    """
    return [
        {
            "path": str(adapter.folder),
            "sha256": adapter.sha256,
            "num_bytes": adapter.num_bytes,
            "base_model": adapter.base_model,
            "rank": adapter.config.r,
            "alpha": adapter.config.lora_alpha,
            "use_rslora": adapter.config.use_rslora,
            "target_modules": adapter.config.target_modules,
            "num_modules": len(adapter.updates),
            "other_ranks": {
                name: update.rank
                for name, update in adapter.updates.items()
                if update.rank != adapter.config.r
            },
            "other_alphas": {
                name: alpha
                for name, alpha in adapter.alphas.items()
                if alpha != adapter.config.lora_alpha
            },
            "dtypes": list(adapter.dtypes),
            "dora": bool(adapter.dora),
            "biases": len(adapter.biases),
            "whole_tensors": len(adapter.saved),
        }
        for adapter in adapters
    ]


def summarise(merge: Merge, modules: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Sum up the measures of the whole merge, from those of its modules.

    Args:
        merge: what was carried out.
        modules: by name, `Merge.measure` and what the export added (`rank`, `energy_kept`,
            `rounding_loss`).

    Returns:
        norms of the adapters and of the result (root of the sum of squares), cosines of the
        updates and of the stacked A, retention <merged, D_i> / |D_i|^2 over all modules, shares
        in quadratic mean, and the modules that are worst off in retention and energy kept, with
        that figure.
    """
    norms = merge.gram.diagonal().sqrt()
    summary: dict[str, Any] = {
        "norms": norms.tolist(),
        "cosines": cosines(merge.gram).tolist(),
        "a_cosines": a_cosines(merge),
        "coefficients": merge.coefficients if merge.is_weighing else None,
    }
    rows = [row for row in modules.values() if "merged_norm" in row]
    if rows:
        summary["merged_norm"] = math.hypot(*(row["merged_norm"] for row in rows))
        summary["retention"] = [
            _retention(rows, index, float(merge.gram[index, index])) for index in range(len(norms))
        ]
        shares = {
            name: _known(row["retention"]) for name, row in modules.items() if "retention" in row
        }
        summary["least_retained"] = _worst(
            {name: min(known) for name, known in shares.items() if known}
        )
    kept = {name: row["energy_kept"] for name, row in modules.items() if "energy_kept" in row}
    if kept:
        summary["least_energy_kept"] = _worst(kept)
    for figure in ("energy_kept", "rounding_loss", "sign_conflict", "kept_share"):
        values = [row[figure] for row in modules.values() if row.get(figure) is not None]
        if values:
            summary[figure] = math.sqrt(sum(v * v for v in values) / len(values))
    return summary


def a_cosines(merge: Merge) -> list[list[float | None]]:
    """Compute cosines of the adapters' A: 1 where adapters share it, about 0 where they do not.

    Of two adapters all A are taken as one vector, where they have the same modules and ranks;
    None where they have not.
    """
    adapters = [
        {
            name: update
            for name, module in merge.modules.items()
            if (update := module.updates[index]) is not None
        }
        for index in range(len(merge.gram))
    ]
    return [[_a_cosine(first, second) for second in adapters] for first in adapters]


def _a_cosine(first: Mapping[str, LowRank], second: Mapping[str, LowRank]) -> float | None:
    shapes = [{name: x.a.shape for name, x in updates.items()} for updates in (first, second)]
    if shapes[0] != shapes[1]:
        return None
    inner, *squares = (
        math.fsum(float((x[name].a.double() * y[name].a).sum()) for name in first)
        for x, y in ((first, second), (first, first), (second, second))
    )
    norm = math.sqrt(math.prod(squares))
    return inner / norm if norm else None


def warnings(adapters: Sequence[Adapter], summary: Mapping[str, Any]) -> list[str]:
    """Return what the user should know before using the result."""
    names = [adapter.folder.name for adapter in adapters]
    if len({*names}) < len(names):
        names = [str(adapter.folder) for adapter in adapters]
    found = [text for adapter in adapters for text in adapter.warnings]
    largest, smallest = max(summary["norms"]), min(summary["norms"])
    if smallest and largest / smallest > _MAX_NORM_RATIO:
        big, small = (names[summary["norms"].index(norm)] for norm in (largest, smallest))
        found.append(
            f"The update of {big} is {largest / smallest:.1f} times as large as that of {small} "
            "and will own most signs and directions; --normalize scales both to their mean."
        )
    for i, row in enumerate(summary["cosines"]):
        found += [
            f"{names[i]} and {names[j]} pull apart (cosine {row[j]:.2f}): merging weakens both."
            for j in range(i)
            if row[j] < _MIN_COSINE
        ]
    for name, share in zip(names, summary.get("retention", ()), strict=False):
        if share is not None and share < _MIN_RETENTION:
            found.append(f"Only {share:.2f} of the update of {name} is left in the merge.")
    if summary.get("energy_kept", 1.0) < _MIN_ENERGY:
        module, share = next(iter(summary["least_energy_kept"].items()))
        found.append(
            f"An adapter of this rank keeps {summary['energy_kept']:.2f} of the merge's energy, "
            f"least in {module} ({share:.2f}); --export full keeps all, a higher --rank more."
        )
    if summary.get("kept_share") == 0:
        found.append("The density keeps no entry of any module: the result changes nothing.")
    return found


def table(adapters: Sequence[Adapter], summary: Mapping[str, Any]) -> str:
    """Return the summary for a terminal: a line per adapter, then the result."""
    rows = [["adapter", "rank", "norm", "retained", "cosines"]]
    retention = summary.get("retention") or [None] * len(adapters)
    for adapter, norm, share, row in zip(
        adapters, summary["norms"], retention, summary["cosines"], strict=True
    ):
        angles = " ".join(f"{cosine:5.2f}" for cosine in row)
        retained = "-" if share is None else f"{share:.3f}"
        rows.append([str(adapter.folder), str(adapter.config.r), f"{norm:.4g}", retained, angles])
    if "merged_norm" in summary:
        rows.append(["merged", "", f"{summary['merged_norm']:.4g}", "", ""])
    named = {
        "energy_kept": "energy kept by the rank",
        "rounding_loss": "lost by rounding, of the update",
        "sign_conflict": "contested entries with opposite signs",
        "kept_share": "entries kept",
    }
    lines = [f"{text}: {summary[key]:.4f}" for key, text in named.items() if key in summary]
    return "\n".join([align(rows, left=(0, 4), widths=(0, 4, 8)), *lines])


def _retention(rows: Sequence[Mapping[str, Any]], index: int, square: float) -> float | None:
    """<merged, D_i> / |D_i|^2 over all modules, from the shares and norms of each."""
    if not square:
        return None
    products = (
        row["retention"][index] * row["norms"][index] ** 2
        for row in rows
        if row["retention"][index] is not None
    )
    return float(sum(products)) / square


def _known(shares: Sequence[float | None]) -> list[float]:
    return [share for share in shares if share is not None]


def _worst(shares: Mapping[str, float]) -> dict[str, float]:
    """The modules with the smallest shares, the smallest first."""
    return dict(sorted(shares.items(), key=lambda item: item[1])[:_NUM_WORST])
