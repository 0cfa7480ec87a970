"""Where the scores of a model go."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.json_files import read_json
from models.run_record import evaluation_folder, trained_on

logger = logging.getLogger(__name__)


def model_folder(
    model_path: str, adapter: Path | None, run: Mapping[str, Any], task_name: str, name: str
) -> Path:
    """Return the folder of a model's scores: beside its adapter where that is of this task.

    So a run keeps what was measured of it.

    Args:
        model_path: as it was given.
        adapter: its folder; None where there is none.
        run: the content of the run.json beside it.
        task_name: of the task.
        name: of the split; of a table of `--csv` its own, as a run may have another under `test`.
    """
    is_here = Path(model_path).expanduser().is_dir()  # and not the cache of the Hub
    if adapter is not None and is_here and task_name in (trained_on(run) or [task_name]):
        return evaluation_folder(adapter, run, task_name, name)
    model = Path(model_path).name or "model"
    return Path("runs") / "evaluation" / model / task_name / name


def beside_larger(folder: Path, num_examples: int) -> Path:
    """Return a folder for scores, another one where this holds those of more examples.

    Either is said in a sentence.
    """
    if not (folder / "metrics.json").is_file():
        return folder
    num_known = read_json(folder / "metrics.json").get("num_examples", 0)
    if num_known <= num_examples:
        logger.warning("The scores of %d examples in %s are replaced.", num_known, folder)
        return folder
    beside = folder.with_name(f"{folder.name}_{num_examples}_examples")
    logger.warning(
        "%s holds the scores of %d examples and is left; those of %d go to %s.",
        *(folder, num_known, num_examples, beside),
    )
    return beside
