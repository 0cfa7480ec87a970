"""Freed memory is kept by the commands' processes."""

import os
import platform
import subprocess
import sys

import pytest

from tests.helpers import REPOSITORY

BLOCKS = """
import resource
import eval
def touch():
    blocks = [b"x" * 2**23 for _ in range(16)]
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
@pytest.mark.parametrize(
    ("given", "is_kept"),
    [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "1048576"}, False)],
)
def test_freed_memory_is_not_asked_for_again_unless_the_user_says_so(
    given: dict[str, str], is_kept: bool
) -> None:
    """A page of 4 KiB that the system had taken back costs a fault: 5 * 16 * 2,048 of them."""
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    environment = {name: text for name, text in os.environ.items() if name not in names} | given
    result = subprocess.run(
        [sys.executable, "-c", BLOCKS],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (int(result.stdout) < 5 * 16 * 2_048 / 10) == is_kept
