"""Faults of the system in a training, each in one sentence that says how to go on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.system_faults import (
    is_disk_full,
    is_out_of_memory,
    killed_worker,
    let_workers_end,
    lost_process,
)
from finetuning.training.checkpoints import describe_last
from finetuning.training.number_watch import NoNumber


@contextmanager
def explained(output_dir: Path) -> Iterator[None]:
    """Turn a fault of the system inside the block into a sentence for the user.

    Args:
        output_dir: of the run, whose newest checkpoint is named.

    Raises:
        RuntimeError: memory or disk ran out, a data worker was killed, or a number was lost.
    """
    try:
        yield
    except Exception as error:  # tokenizers raises no narrower kind where a disk is full
        let_workers_end()
        reason = _reason(error)
        if reason is None:
            raise
        raise RuntimeError(f"{reason} In {output_dir}: {describe_last(output_dir)}.") from error


def _reason(error: Exception) -> str | None:
    if isinstance(error, NoNumber):
        return str(error)
    if is_out_of_memory(error):
        return (
            "Memory ran out in training: lower --batch_size and raise "
            "--gradient_accumulation_steps as much, turn --gradient_checkpointing on, or take "
            "smaller images or --quantization nf4; then go on by --resume, or start anew."
        )
    if is_disk_full(error):
        return "The disk is full, or a quota is: free some space and go on by --resume."
    return killed_worker(error) or lost_process(error)
