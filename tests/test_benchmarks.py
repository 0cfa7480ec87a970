"""The benchmark scripts run and compare like with like."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_step.py"


@pytest.mark.slow
def test_the_gpu_script_runs_on_a_cpu_and_both_paths_have_the_same_loss(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--tiny", "--num_steps", "4"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    lines = [line.split() for line in result.stdout.splitlines()]
    rows = {cells[0]: cells for cells in lines if len(cells) == 5}
    assert float(rows["ours"][-1]) == pytest.approx(float(rows["stock"][-1]), abs=1e-4)
    assert float(rows["ours"][2]) > 0
