"""One adapter for several tasks: the seed of each and one metric for all of them."""

from collections.abc import Sequence
from statistics import fmean
from zlib import crc32

from evaluation.training_log import JOINT, LOWER, UPPER
from tasks.base import Task
from tasks.report import Report


def answer_seed(seed: int, task: Task, num_tasks: int) -> int:
    """Return the seed by which a task draws among accepted answers.

    Two tasks may have ids in common, and those must not draw alike. A task alone draws by the
    run's own seed.
    """
    return seed if num_tasks == 1 else crc32(f"{seed}/{task.name}".encode())


def joint_metrics(reports: Sequence[Report]) -> dict[str, float]:
    """Return the named metrics of a scoring for the curves, the headline first.

    Of one task these are its metrics. Of several they are `joint`, the mean over the tasks of
    headline / best possible value (0 to 1), and each headline as `<task>_<metric>`; where a
    headline is not available, there is no `joint`. The ends of a headline's 95 % interval follow,
    where it has one.
    """
    ends: dict[str, float | None] = {}
    for report in reports:
        name = (
            report.task.metric if len(reports) == 1 else f"{report.task.name}_{report.task.metric}"
        )
        if report.uncertainty and report.uncertainty.interval_95:
            lower, upper = report.uncertainty.interval_95
            ends |= {name + LOWER: lower, name + UPPER: upper}
    if len(reports) == 1:
        found = reports[0].metrics
    else:
        shares = [r.value / r.task.metric_range for r in reports if r.value is not None]
        mean = fmean(shares) if len(shares) == len(reports) else None
        found = {JOINT: mean} | {f"{r.task.name}_{r.task.metric}": r.value for r in reports}
    return {name: value for name, value in (found | ends).items() if value is not None}
