"""The cells of a grid on a Ray cluster."""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from common.extras import install_command
from experiments.cell import run_one
from experiments.grid_runs import Run


@dataclass(frozen=True, slots=True)
class RaySettings:
    """Where the cells of a grid run, and with what.

    Attributes:
        address: of the cluster; `local` starts one here.
        num_gpus: GPUs of each cell, a share of one too; None takes one where the cluster has any.
        num_cpus: processors of each cell.
    """

    address: str
    num_gpus: float | None = None
    num_cpus: float = 1

    def __post_init__(self) -> None:
        if self.num_gpus is not None and not 0 <= self.num_gpus < inf:
            raise ValueError(f"--ray_gpus must be at least 0, got {self.num_gpus:g}.")
        if not 0 < self.num_cpus < inf:
            raise ValueError(f"--ray_cpus must be above 0, got {self.num_cpus:g}.")


def run_on_ray(grid: Sequence[Run], settings: RaySettings) -> Iterator[tuple[Run, str | None]]:
    """Run each cell on a Ray cluster; yield it with the sentence of its error as they end.

    Args:
        grid: the cells.
        settings: where, and with what.

    Raises:
        ValueError: Ray is not installed, or the cluster cannot be reached or is too small.
    """
    address = settings.address
    try:
        import ray
    except ImportError as error:
        raise ValueError(f"--ray needs Ray; run `{install_command('ray')}`.") from error

    _check_reachable(address)
    ray.init(address=address, log_to_driver=False)  # `local` and `auto` are words of Ray's own
    cluster = ray.cluster_resources()  # type: ignore[no-untyped-call]
    try:
        num_gpus, num_cpus = _resources(settings, cluster)
    except ValueError:
        ray.shutdown()
        raise
    remote = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=0)(_run_in)
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


def _resources(settings: RaySettings, cluster: Mapping[str, float]) -> tuple[float, float]:
    """The GPUs and processors of a cell; Ray would wait for ever for what the cluster has not."""
    has = {"num_gpus": cluster.get("GPU", 0), "num_cpus": cluster.get("CPU", 0)}
    num_gpus = min(1, has["num_gpus"]) if settings.num_gpus is None else settings.num_gpus
    wanted = {"num_gpus": num_gpus, "num_cpus": settings.num_cpus}
    for name, number in wanted.items():
        if number > has[name]:
            kind = name.removeprefix("num_")
            raise ValueError(
                f"--ray_{kind} {number:g} asks for more than the cluster {settings.address} has "
                f"({has[name]:g}); ask for less, or give another cluster."
            )
    return wanted["num_gpus"], wanted["num_cpus"]


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
