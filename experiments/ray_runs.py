"""The cells of a grid on a Ray cluster."""

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.ablation import Run
from experiments.cell import run_one


def run_on_ray(grid: Sequence[Run], address: str) -> Iterator[tuple[Run, str | None]]:
    """Run each cell on a Ray cluster; yield it with the sentence of its error as they end.

    Args:
        grid: the cells.
        address: of the cluster; `local` starts one here.

    Raises:
        ValueError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "--ray needs Ray; run `pip install -c constraints.txt -e .[ray]` in the checkout."
        ) from error

    _check_reachable(address)
    ray.init(address=address, log_to_driver=False)  # `local` and `auto` are words of Ray's own
    num_gpus = min(1, ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    remote = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=0)(_run_in)
    pending = {remote.remote(Path.cwd(), run): run for run in grid}
    while pending:
        (done, *_), _ = ray.wait(list(pending))
        fault: str | None
        try:
            fault = ray.get(done)
        except ray.exceptions.RayError as lost:  # the worker's, or a node's that died
            fault = f"{type(lost).__name__}: {str(lost).partition(chr(10))[0]}"
        yield pending.pop(done), fault
    ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ask HOST:PORT once: Ray itself tries for minutes and then ends the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--ray {address} cannot be reached ({error}); give HOST:PORT of a cluster, or nothing "
            "to start one here."
        ) from error


def _run_in(folder: Path, run: Run) -> str | None:
    """Run one cell on a worker, in our folder, to which the paths of the grid are relative."""
    os.chdir(folder)
    return run_one(run)
