"""An adapter in memory, and the checks that several fit together and fit a base."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from merging.algebra.low_rank import LowRank
from models.adapter_config import AdapterConfig
from models.fingerprint import same_weights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adapter:
    """An adapter in memory; modules by their canonical names, in sorted order.

    Attributes:
        folder: where it was read.
        config: what its adapter_config.json says.
        base_model: name of the model it was trained on, empty where it does not say.
        base_fingerprint: of that model's weights, where a run.json of ours recorded it.
        updates: the update of each module.
        alphas: lora_alpha of each module; its rank is `updates[module].rank`.
        dora: DoRA's magnitudes, (d_out,) float32 per module.
        biases: lora_bias: the update of each module's bias, scale applied, (d_out,) float32.
        saved: whole tensors that replace the base's, by parameter name, as stored:
            modules_to_save, trained biases, embeddings.
        dtypes: of the LoRA tensors in the file.
        sha256: of the file with the weights.
        num_bytes: of that file.
        warnings: sentences for the user.
    """

    folder: Path
    config: AdapterConfig
    base_model: str
    base_fingerprint: str | None
    updates: Mapping[str, LowRank]
    alphas: Mapping[str, float]
    dora: Mapping[str, Tensor]
    biases: Mapping[str, Tensor]
    saved: Mapping[str, Tensor]
    dtypes: tuple[str, ...]
    sha256: str
    num_bytes: int
    warnings: tuple[str, ...] = ()


def beside_low_rank(adapter: Adapter) -> str:
    """Return what an adapter has beside low-rank updates, as `uses DoRA`; nothing where it is all.

    DoRA, trained biases, or whole modules; the first of them is named.
    """
    kinds = (
        (adapter.dora, "uses DoRA, whose update is not low rank ({0} first)"),
        (adapter.biases, "has lora_bias: updates of biases ({0} first)"),
        (adapter.saved, "holds whole tensors beside its LoRA ({0} first)"),
    )
    return next((text.format(next(iter(tensors))) for tensors, text in kinds if tensors), "")


def check_low_rank_only(adapter: Adapter) -> None:
    """Refuse what an adapter with the merged update of each module could not express.

    Raises:
        ValueError: DoRA, trained biases, or whole modules.
    """
    if more := beside_low_rank(adapter):
        raise ValueError(
            f"Adapter {adapter.folder} {more}, which a merged adapter cannot hold; write a full "
            "model by --export full."
        )


def check_same_base(
    adapters: Sequence[Adapter],
    base: str,
    *,
    base_fingerprint: str | None = None,
    allow_mismatch: bool = False,
) -> list[str]:
    """Refuse adapters that were not trained on `base`.

    Fingerprints decide where both are known; else names do, and where only their last parts
    agree (a copy of a Hub model in a folder) that is let through with a warning.

    Args:
        adapters: what is to be merged.
        base: folder or Hub id of the model.
        base_fingerprint: of its weights (`models.checkpoint.Checkpoint.fingerprint`).
        allow_mismatch: warn in place of refusing.

    Returns:
        Warnings.

    Raises:
        ValueError: another base; names both.
    """
    warnings = []
    fingerprint, of_whom = base_fingerprint, base
    for adapter in adapters:
        trained_on = adapter.base_model or "a base that it does not name"
        is_same = same_weights(adapter.base_fingerprint, fingerprint)
        problem = ""
        if is_same is False:
            problem = f"was trained on {trained_on}, whose weights are not those of {of_whom}"
        elif is_same and of_whom == base:
            continue
        elif not adapter.base_model:
            warnings.append(
                f"Adapter {adapter.folder} does not name its base; it is taken to be {base}."
            )
        elif _last_part(adapter.base_model) != _last_part(base):
            problem = f"was trained on {adapter.base_model}, not on {base}"
        elif adapter.base_model != base:
            warnings.append(
                f"Adapter {adapter.folder} was trained on {adapter.base_model}; "
                f"{base} is taken to be the same model."
            )
        if problem and not allow_mismatch:
            raise ValueError(
                f"Adapter {adapter.folder} {problem}; only adapters of one base can be merged: "
                "pass theirs as --base_model, or --allow_base_mismatch if you know that they are "
                "the same."
            )
        if problem:
            warnings.append(f"Adapter {adapter.folder} {problem}.")
        if fingerprint is None and adapter.base_fingerprint is not None:
            fingerprint, of_whom = adapter.base_fingerprint, f"adapter {adapter.folder}'s base"
    return warnings


def check_shapes(adapters: Iterable[Adapter], shapes: Mapping[str, tuple[int, int]]) -> None:
    """Refuse updates that do not fit the base's weights.

    Args:
        adapters: what is to be merged.
        shapes: (d_out, d_in) of each of the base's weight matrices, by canonical module name.

    Raises:
        ValueError: the base has no such module, or it has another shape.
    """
    for adapter in adapters:
        for name, update in adapter.updates.items():
            if name not in shapes:
                raise ValueError(
                    f"Adapter {adapter.folder} changes {name}, which the base model does not "
                    "have; pass the model it was trained on as --base_model."
                )
            if update.shape != tuple(shapes[name]):
                (rows, columns), (base_rows, base_columns) = update.shape, shapes[name]
                raise ValueError(
                    f"Adapter {adapter.folder} changes {name} by a {rows} x {columns} matrix, "
                    f"and the base model has {base_rows} x {base_columns} there; pass the model "
                    "it was trained on as --base_model."
                )


def _last_part(name: str) -> str:
    """The model's own name: the last part of a path or Hub id; in the Hub's cache, the id's."""
    cached = re.search(r"models--[^/]+--([^/]+)/snapshots/[^/]+/?$", name)
    return cached[1] if cached else Path(name).name
