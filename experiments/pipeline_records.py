"""The records of the pipeline's steps: where each lies, and what it was done with."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common.files import file_hash
from common.json_files import read_json, write_json
from experiments.pipeline_config import Settings
from models.checkpoint import resolve
from models.fingerprint import same_weights

RECORD = "pipeline.json"
_BASE = "base_weights"


def raw_folder(settings: Settings) -> Path:
    """Return the folder of the data set."""
    return settings.root / "dataset" / "raw"


def results_folder(settings: Settings) -> Path:
    """Return the folder of the results."""
    return settings.root / "results"


def base_file(settings: Settings) -> Path:
    """Return the file with the scores of the untouched model."""
    return results_folder(settings) / "evaluation" / "base_vlm_model_evaluation.json"


def base_made_with(settings: Settings) -> dict[str, Any]:
    """Return what the scores of the untouched model are made with."""
    model = {"model_path": settings.model_id}
    return model | described(settings.evaluation) | weights_of(settings) | data_made_with(settings)


def train_made_with(settings: Settings) -> dict[str, Any]:
    """Return what the adapter is made with."""
    return described(settings.training) | weights_of(settings) | data_made_with(settings)


def weights_of(settings: Settings) -> dict[str, Any]:
    """Return what the model's weights are told by, which another model of its name has not."""
    assert settings.model_id is not None
    base = resolve(settings.model_id)
    return {_BASE: base.fingerprint or base.revision}


def deployment_made_with(settings: Settings) -> dict[str, Any]:
    """Return the adapter that went into the deployment model, by its weights."""
    folder = results_folder(settings) / "model"
    if not (folder / RECORD).is_file():
        raise ValueError(f"There is no adapter in {folder} yet; run `palitune pipeline train`.")
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise ValueError(
            f"{folder} was trained and has lost {weights.name}; remove it, and run `palitune "
            "pipeline train` again."
        )
    return {"adapter_sha256": file_hash(weights), "onto": settings.onto}


def described(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as a record keeps them, without the folder, which may move."""
    return {
        name: value
        for name, value in options.items()
        if name != "data_root" and value is not None and value is not False  # zeros are settings
    }


def data_made_with(settings: Settings) -> dict[str, str]:
    """Return the data that the other steps stand on.

    Raises:
        ValueError: there is none yet.
    """
    from experiments.pipeline_data import RECORD as DATA_RECORD

    record = raw_folder(settings) / DATA_RECORD
    if not record.is_file():
        raise ValueError(
            f"There is no data set in {record.parent} yet; run `palitune pipeline "
            "download-dataset`."
        )
    return {"dataset_sha256": file_hash(record)}


def is_done(
    step: str, record: Path, made_with: Mapping[str, Any], show: Callable[[str], None]
) -> bool:
    """Return True where a step is done, and show what it was done with.

    Raises:
        ValueError: it was done with other settings; names the first that differs.
    """
    if not record.is_file():
        return False
    before = read_json(record)["made_with"]
    for name in {**before, **made_with}:
        was, now = before.get(name), made_with.get(name)
        is_same = was == now or (name not in before and now == 0)  # earlier records lack zeros
        if name == _BASE:  # which they lack too
            is_same = same_weights(was, now) is not False
        if not is_same:
            place = record if record.name.startswith(("base", "finetuned")) else record.parent
            raise ValueError(
                f"{record.parent}: {step} was done with {name} {was}, not {now}; remove {place} to "
                "do it anew, or give another --root."
            )
    settings = ", ".join(f"{name} {value}" for name, value in before.items())
    show(f"{step}: done before, in {record.parent} ({settings})")
    return True


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record; with it a step is done."""
    write_json(path, content, ensure_ascii=False)
