"""A grid, and runs that take no time in place of trainings."""

import json
import sys
from pathlib import Path

import pytest

from evaluation.provenance import describe_data
from experiments.grid_runs import Run
from models.checkpoint import resolve
from tasks.base import Source
from tests.experiments.grids import CSV_QA, option, write_grid


@pytest.fixture
def grid(tmp_path: Path, pico1: Path) -> Path:
    return write_grid(tmp_path, [("pali", str(pico1))])


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs that write the figure 40 + rank, or fail where the name is in the list returned."""
    broken: list[str] = []

    def command(run: Run) -> list[str]:
        rank = option(run, "lora_rank")
        metrics = {
            "split": "test",
            "num_examples": 4,
            "metric": "rouge_l",
            "value": 40.0 + int(rank),
            "metrics": {"rouge_l": 40.0 + int(rank), "CIDEr": None},
            "uncertainty": {"interval_95": [39.0, 45.0]},
        }
        files = {split: Path(option(run, f"{split}_csv")) for split in ("train", "val", "test")}
        record = {
            "task": "csv_qa",
            "base_fingerprint": resolve(option(run, "model_path")).fingerprint,
            "settings": {},
            **{
                f"{use}_data": describe_data(split, CSV_QA.load(split, Source(tables=files)))
                for use, split in (("train", "train"), ("eval", "test"))
            },
        }
        lines = [
            "import pathlib, sys",
            f"sys.exit('Error: it broke.') if {run.name in broken} else None",
            f"folder = pathlib.Path({str(run.folder)!r})",
            "(folder / 'evaluation' / 'csv_other').mkdir(parents=True, exist_ok=True)",
            "(folder / 'evaluation' / 'test').mkdir(exist_ok=True)",
            "(folder / 'evaluation/test/report.html').write_text('a page')",
            f"(folder / 'adapter_model.safetensors').write_text({rank!r})",
            f"(folder / 'run.json').write_text({json.dumps(record)!r})",
            f"(folder / 'evaluation/test/metrics.json').write_text({json.dumps(metrics)!r})",
            "(folder / 'evaluation/csv_other/metrics.json').write_text('{\"value\": 1.0}')",
        ]
        return [sys.executable, "-c", "\n".join(lines)]

    monkeypatch.setattr(Run, "command", property(command))
    return broken
