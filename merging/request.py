"""The request of a merge, as typed values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.base import TaskSource

Export = Literal["auto", "adapter", "full", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRequest:
    """The examples that a merge is scored on.

    Attributes:
        tasks: the tasks, each with the source of its data; none where nothing is scored.
        max_eval_samples: number of examples per task.
        batch_size: examples answered at once.
        device: where the model runs.
    """

    tasks: Sequence[TaskSource] = ()
    max_eval_samples: int = 256
    batch_size: int = 8
    device: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeRequest:
    """One merge: the adapters, how they are merged, what is written, and what it is scored on.

    Attributes:
        base_model: folder, Hub id or `tiny`.
        revision: revision of the base's Hub repository.
        adapters: folders or Hub ids, in order.
        allow_base_mismatch: take adapters of differently named bases.
        mode: a mode of `merging.algebra.modes`, or `auto`.
        weights: one per adapter; None takes the mode's.
        lam: scale of the merged update; None takes the mode's.
        density: share of the entries kept; None takes the mode's.
        t: place on slerp's arc; None takes the mode's.
        sweep: grid of candidates, as `merging.settings.parse_grid` reads it.
        seed: seed of dropping, of the examples and of their halves.
        missing: how an adapter without a module counts there.
        trim_scope: what a density is a share of.
        normalize: scale each adapter to the mean norm first.
        output: the new folder; None where nothing is written.
        resume: go on with the scores that an interrupted merge left.
        export: what is written.
        rank: rank of the written adapter, as `merging.settings.parse_rank` reads it.
        save_dtype: precision of the written weights.
        onto: weights of the base that the update is added to.
        trial: what the merge is scored on.
    """

    base_model: str
    adapters: Sequence[Path]
    revision: str | None = None
    allow_base_mismatch: bool = False
    mode: str = "auto"
    weights: Sequence[float] | None = None
    lam: float | None = None
    density: float | None = None
    t: float | None = None
    sweep: str | None = None
    seed: int = 0
    missing: Literal["zero", "renorm"] = "zero"
    trim_scope: Literal["tensor", "adapter"] = "tensor"
    normalize: bool = False
    output: Path | None = None
    resume: bool = False
    export: Export = "auto"
    rank: str = "full"
    save_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    onto: Literal["auto", "original", "nf4"] = "auto"
    trial: TrialRequest = TrialRequest()

    @property
    def given_settings(self) -> dict[str, Any]:
        """Return the settings of the arithmetic that are not left to the mode."""
        names = ("lam", "density", "t", "weights")
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}
