"""A training in a process of its own, as a command runs it: python -m tests.finetuning.child."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.helpers import REPOSITORY


def start(pico: Path, folder: Path, **changes: Any) -> "subprocess.Popen[str]":
    """Start a training of `training_jobs.job`; its settings go through JSON."""
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(pico), str(folder), json.dumps(changes)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def main() -> None:
    from finetuning.training.run import finetune
    from palitune.command import Command
    from tests.finetuning.training_jobs import job

    pico, folder, changes = sys.argv[1:]
    settings = json.loads(changes)
    max_file_size = settings.pop("max_file_size", None)
    if max_file_size:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_size, max_file_size))
    trained = job(Path(pico), Path(folder), **settings)
    Command("train", callback=lambda: finetune(trained) and None).main([])


if __name__ == "__main__":
    main()
