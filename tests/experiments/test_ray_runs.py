"""What a run of a grid takes of a Ray cluster."""

import re

import pytest

from experiments.ray_runs import RaySettings, _resources


@pytest.mark.parametrize(
    ("settings", "cluster", "expected"),
    [
        (RaySettings("local"), {"CPU": 8.0}, (0, 1)),
        (RaySettings("local"), {"CPU": 8.0, "GPU": 4.0}, (1, 1)),
        (RaySettings("local", 0.25, 2), {"CPU": 8.0, "GPU": 4.0}, (0.25, 2)),
        (RaySettings("local", 0), {"CPU": 8.0, "GPU": 4.0}, (0, 1)),
        (RaySettings("local", 2, 8), {"CPU": 8.0, "GPU": 4.0}, (2, 8)),
    ],
)
def test_a_run_gets_what_is_asked_for_else_a_gpu_where_there_is_one(
    settings: RaySettings, cluster: dict[str, float], expected: tuple[float, float]
) -> None:
    assert _resources(settings, cluster) == expected


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (RaySettings("here:1", 1), "--ray_gpus 1 asks for more than the cluster here:1 has (0)"),
        (RaySettings("here:1", 0, 9), "--ray_cpus 9 asks for more than the cluster here:1 has (8)"),
    ],
)
def test_what_the_cluster_has_not_is_refused(settings: RaySettings, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        _resources(settings, {"CPU": 8.0})


@pytest.mark.parametrize(("gpus", "cpus"), [(-1, 1), (float("nan"), 1), (1, 0), (1, float("inf"))])
def test_a_number_out_of_its_range_is_refused(gpus: float, cpus: float) -> None:
    with pytest.raises(ValueError, match=r"--ray_[gc]pus must be"):
        RaySettings("local", gpus, cpus)
