"""Write one update per module as a PEFT LoRA adapter, and read it back before saying so."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from common.files import share
from common.json_files import write_json
from merging.algebra.low_rank import LowRank
from merging.algebra.reader import read_adapter
from models.adapter_config import CONFIG_FILE
from models.adapter_files import WEIGHTS_FILE
from models.adapter_targets import exact_pattern


def write_adapter(
    folder: Path,
    updates: Mapping[str, LowRank],
    base_model: str,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write an adapter that plain `PeftModel.from_pretrained` loads; equal input, equal bytes.

    Each module keeps its own rank; alpha equals the rank, so that scale is 1 and sits in the
    factors, its root in each.

    Args:
        folder: where to; made if need be.
        updates: by the module names of the installed transformers, as
            `merging.algebra.names.canonical` gives them.
        base_model: what `base_model_name_or_path` is to say.
        revision: of `base_model` on the Hub.
        dtype: of the tensors in the file.

    Raises:
        ValueError: a value is beyond that dtype.
    """
    assert updates and all(update.rank > 0 for update in updates.values())
    ranks = {name: updates[name].rank for name in sorted(updates)}
    default = Counter(ranks.values()).most_common(1)[0][0]  # of equals the first by name
    patterns = {
        f"^(?:{exact_pattern(name for name in ranks if ranks[name] == rank)})": rank
        for rank in {*ranks.values()} - {default}
    }
    patterns = dict(sorted(patterns.items()))
    config = {
        "base_model_name_or_path": base_model,
        "revision": revision,
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "target_modules": exact_pattern(ranks),
        "r": default,
        "lora_alpha": default,
        "rank_pattern": patterns,
        "alpha_pattern": patterns,
        "use_rslora": False,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_dora": False,
    }
    tensors = {}
    for name in ranks:
        for part, factor in zip("AB", _fold(updates[name]), strict=True):
            tensor = factor.to(dtype).contiguous()
            _check_finite(name, tensor)
            tensors[f"base_model.model.{name}.lora_{part}.weight"] = tensor
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    share(folder / WEIGHTS_FILE)
    write_json(folder / CONFIG_FILE, dict(sorted(config.items())))


def _check_finite(name: str, tensor: Tensor) -> None:
    if not tensor.isfinite().all():
        raise ValueError(
            f"The merge of {name} has NaN or values that {tensor.dtype} has not; pass smaller "
            "--weights or --lambda, or check the adapters."
        )


def verify_adapter(
    folder: Path, updates: Mapping[str, LowRank], tolerance: float = 1e-6
) -> dict[str, float]:
    """Read an adapter back and compare it with what it was to hold.

    Args:
        folder: with the adapter.
        updates: by canonical module name.
        tolerance: accepted relative error of a module; a file of bfloat16 needs 1e-2.

    Returns:
        Relative error per module: |difference| over |update| in the Frobenius norm, the latter
        taken over the update's rank-one terms one by one, so that terms that cancel each other
        do not make rounding look like damage.

    Raises:
        RuntimeError: it holds something else.
        ValueError: it cannot be read.
    """
    written = read_adapter(folder).updates
    if set(written) != set(updates):
        odd = min(set(written) ^ set(updates))
        raise RuntimeError(
            f"{folder} was written wrongly: {odd} is in only one of file and merge; write it again."
        )
    errors = {name: _relative_error(written[name], updates[name]) for name in sorted(updates)}
    worst = max(errors, key=lambda name: errors[name])
    if not errors[worst] <= tolerance:
        raise RuntimeError(
            f"{folder} was written wrongly: {worst} is off by {errors[worst]:.1e} of its norm, "
            f"{tolerance:.0e} is accepted; write it again, or in float32."
        )
    return errors


def _fold(update: LowRank) -> tuple[Tensor, Tensor]:
    """Factors a, b whose plain product is the update."""
    root = math.sqrt(abs(update.scale))
    return root * update.a, math.copysign(root, update.scale) * update.b


def _relative_error(first: LowRank, second: LowRank) -> float:
    """Computed in float64 on the factors, for (d_out + d_in) r^2 operations."""
    b = torch.cat([first.scale * first.b.double(), -second.scale * second.b.double()], dim=1)
    a = torch.cat([first.a.double(), second.a.double()])
    # the triangular parts of the QR decompositions have the norm of the whole product
    difference = (torch.linalg.qr(b, mode="r").R @ torch.linalg.qr(a.T, mode="r").R.T).norm()
    terms = (second.b.double().norm(dim=0) * second.a.double().norm(dim=1)).norm()
    norm = abs(second.scale) * terms
    return float(difference / norm) if norm else float(difference)
