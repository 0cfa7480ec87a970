"""The inputs of a merge, read and checked against each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from merging.algebra.adapters import Adapter, check_same_base, check_shapes
from merging.algebra.base import Base, open_base
from merging.algebra.reader import read_adapter
from merging.request import MergeRequest
from models import run_record
from models.base import Family
from models.checkpoint import Checkpoint, resolve
from models.loading import load_family
from models.run_record import trained_on


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The base, the adapters and their records.

    Attributes:
        checkpoint: the base, resolved.
        processor_checkpoint: the base with the processor of an adapter whose run set its own.
        family: with that processor, which is written beside the weights; None where nothing is
            written, or where the base has no processor that can be read.
        base: the checkpoint, as its files.
        adapters: in the order given.
        runs: each adapter's run.json, empty where it has none.
        warnings: of bases that are named otherwise, adapters given twice and the like.
    """

    checkpoint: Checkpoint
    processor_checkpoint: Checkpoint
    family: Family | None
    base: Base
    adapters: Sequence[Adapter]
    runs: Sequence[Mapping[str, Any]]
    warnings: Sequence[str]

    @property
    def prompt_settings(self) -> dict[str, dict[str, Any]]:
        """Return by task the prompt settings of the first run that was trained on it."""
        found: dict[str, dict[str, Any]] = {}
        for run in self.runs:
            for name in trained_on(run):
                found.setdefault(name, run_record.prompt_settings(run, name))
        return found


def read_inputs(request: MergeRequest, folders: Sequence[Path]) -> Inputs:
    """Read the base, the adapters and their records, and check that they fit together.

    Args:
        request: the merge.
        folders: the adapters' folders on this machine.

    Raises:
        ValueError: one cannot be read, or they do not fit together.
    """
    runs = [run_record.read_run(folder) for folder in folders]
    checkpoint = resolve(
        request.base_model,
        revision=request.revision,
        model_type=model_type_of(runs),
    )
    if checkpoint.adapter is not None:
        raise ValueError(f"--base_model {request.base_model} is an adapter; pass its base.")
    base = open_base(request.base_model, request.revision)
    shapes = base.shapes()
    # on the Hub or quantised the names are not at hand, and nothing whole can be written
    parameters = () if base.local is None or base.quantization else base.tensors
    adapters = [read_adapter(f, checkpoint.model_type, shapes, parameters) for f in folders]
    found = check_same_base(
        adapters,
        checkpoint.base,
        base_fingerprint=checkpoint.fingerprint,
        allow_mismatch=request.allow_base_mismatch,
    )
    check_shapes(adapters, shapes)
    found += _twice(adapters)
    unknown = [str(folder) for folder, run in zip(folders, runs, strict=True) if not run]
    if unknown:
        found.append(
            f"There is no run.json in {' and '.join(unknown)}, which would say whether 4-bit "
            "weights were trained on; the original ones are assumed."
        )
    own = [
        folder
        for folder, run in zip(folders, runs, strict=True)
        if any(_model_settings(run).values())
    ]
    if own and any(_model_settings(run) != _model_settings(runs[0]) for run in runs):
        found.append(
            "The adapters were trained with different image sizes or chat templates; the merge "
            f"is fed as {own[0]} was."
        )
    processor_checkpoint = replace(checkpoint, adapter=own[0]) if own else checkpoint
    family = None
    if request.output is not None:
        family = _with_processor(processor_checkpoint, found)
    return Inputs(
        checkpoint=checkpoint,
        processor_checkpoint=processor_checkpoint,
        family=family,
        base=base,
        adapters=adapters,
        runs=runs,
        warnings=found,
    )


def _twice(adapters: Sequence[Adapter]) -> list[str]:
    """Say which adapters have the weights of one before them, under whatever name."""
    by_content: dict[str, list[str]] = {}
    for adapter in adapters:
        by_content.setdefault(adapter.sha256, []).append(str(adapter.folder))
    return [
        f"{' and '.join(same)} hold the same weights, so one adapter counts {len(same)} times; "
        "check that each folder is the one you mean."
        for same in by_content.values()
        if len(same) > 1
    ]


def _with_processor(checkpoint: Checkpoint, found: list[str]) -> Family | None:
    """Read the processor while nothing is done yet; a merge needs none of the base's own."""
    try:
        family = load_family(checkpoint)
        family.tokenizer, family.image_processor  # noqa: B018  # they are read when first asked for
    except ValueError as error:
        if checkpoint.adapter is not None:  # the merge would be fed otherwise than its adapters
            raise
        found.append(f"No processor is written beside the merge: {error}")
        return None
    return family


def model_type_of(runs: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the family that the runs named in place of the base's own, if any did."""
    return next(filter(None, (_model_settings(run)["model_type"] for run in runs)), None)


def _model_settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a run fed its model, where it set more than the base does."""
    names = ("model_type", "chat_template", "image_size", "min_pixels", "max_pixels")
    return {name: run.get("settings", {}).get(name) for name in names}
