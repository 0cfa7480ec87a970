"""Modules that Windows has not: everything is imported and trains without them."""

import subprocess
import sys
from pathlib import Path

import pytest

from common import folder_lock
from common.folder_lock import is_locked, locked
from common.peak_memory import peak_memory_mb
from tests.helpers import REPOSITORY
from tests.source_tree import LAYERS, relative, source_files

# What our files, and not the libraries of this system, find as it is on Windows: the modules of
# Unix alone (https://docs.python.org/3/library/unix.html) are missing, `os` and `signal` poorer.
_HIDDEN = f"""
import builtins, os, signal, sys, types
import_ = builtins.__import__
missing = "fcntl grp posix pty pwd resource syslog termios tty".split()
names = "fork register_at_fork sched_getaffinity getuid geteuid killpg setsid waitpid WNOHANG"
names += " SIGCHLD SIGHUP SIGKILL SIGUSR1 SIGUSR2 SIGALRM SIGTSTP SIGCONT alarm setitimer"
poorer = {{module: types.ModuleType(module.__name__) for module in (os, signal)}}
for module, copy in poorer.items():
    copy.__dict__.update({{k: v for k, v in vars(module).items() if k not in names.split()}})
def import_as_windows(name, globals=None, *more, **by_name):
    if ((globals or {{}}).get("__name__") or "").partition(".")[0] not in {LAYERS}:
        return import_(name, globals, *more, **by_name)
    if name in missing:
        raise ModuleNotFoundError(f"No module named '{{name}}'")
    found = import_(name, globals, *more, **by_name)
    return poorer.get(found, found)
builtins.__import__ = import_as_windows
"""
_TRAIN = """
import multiprocessing
multiprocessing.set_start_method("spawn")
from palitune.main import palitune
palitune(sys.argv[1:])
"""


def _without_posix(program: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own that has nothing of Unix."""
    command = [sys.executable, "-c", _HIDDEN + program, *map(str, words)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def _modules() -> list[str]:
    """Every module of ours but the scripts that run when they are imported."""
    names = [relative(path).removesuffix(".py").replace("/", ".") for path in source_files(*LAYERS)]
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.slow
def test_every_module_is_imported_without_what_unix_alone_has() -> None:
    modules = _modules()
    assert {"merging.run", "finetuning.training.run_state", "experiments.processes"} <= set(modules)
    program = "import importlib\nfor name in sys.argv[1:]: importlib.import_module(name)"
    result = _without_posix(program, *modules)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_a_run_is_trained_and_merged_without_what_unix_alone_has(tmp_path: Path) -> None:
    run, merge = tmp_path / "run", tmp_path / "merge"
    train = ["train", "digits", "--model_path", "tiny", "--max_steps", 2, "--batch_size", 2]
    few = ["--max_eval_samples", 2, "--max_train_samples", 4, "--num_workers", 1]
    result = _without_posix(_TRAIN, *train, *few, "--output_dir", run)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("cannot be locked on this system") == 2  # the run, and its scores
    both = ["--base_model", "tiny", "--model_a", run, "--model_b", run, "--output", merge]
    result = _without_posix(_TRAIN, "merge", *both)
    assert result.returncode == 0, result.stderr
    assert (merge / "adapter_model.safetensors").is_file()


def test_a_folder_is_locked_for_one(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(BlockingIOError), locked(tmp_path):
            pass
        assert is_locked(tmp_path)  # a refusal gives nothing back
    assert not is_locked(tmp_path)


def test_a_system_without_locks_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(folder_lock, "HAS_LOCKS", False)
    with locked(tmp_path), locked(tmp_path):
        assert not is_locked(tmp_path)
    assert caplog.text.count("cannot be locked on this system") == 2


def test_the_peak_of_memory_counts_what_was_given_back() -> None:
    before = peak_memory_mb()
    taken = bytearray(b"1") * (200 << 20)
    del taken
    after = peak_memory_mb()
    assert 10 < before < 100_000  # MiB of an interpreter, neither KiB nor GiB
    assert after >= 200


def test_macos_counts_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    kib = peak_memory_mb()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peak_memory_mb() == pytest.approx(kib / 1024, rel=0.01)
