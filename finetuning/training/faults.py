"""Faults of the system in a training, each in one sentence that says how to go on."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetuning.training.checkpoints import describe_last
from finetuning.training.number_watch import NoNumber
from models.memory import is_out_of_memory

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# what safetensors, tokenizers and torch.save say of it
_FULL_TEXT = re.compile(
    r"No space left|quota exceeded|File too large|file write failed|iostream error", re.I
)
_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")


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
        reason = _reason(error)
        if reason is None:
            raise
        raise RuntimeError(f"{reason} In {output_dir}: {describe_last(output_dir)}.") from error


def _reason(error: Exception) -> str | None:
    text = str(error)
    if isinstance(error, NoNumber):
        return text
    if is_out_of_memory(error):
        return (
            "Memory ran out in training: lower --batch_size and raise "
            "--gradient_accumulation_steps as much, turn --gradient_checkpointing on, or take "
            "smaller images or --quantization nf4; then go on by --resume, or start anew."
        )
    if getattr(error, "errno", None) in _FULL or _FULL_TEXT.search(text):
        return "The disk is full, or a quota is: free some space and go on by --resume."
    if found := _WORKER.search(text):
        return (
            f"A data worker (process {found[1]}) was killed, most often for want of memory: go on "
            "by --resume with fewer --num_workers."
        )
    if isinstance(error, ConnectionError | EOFError):
        return (
            "A data worker was killed, most often for want of memory: go on by --resume with "
            "fewer --num_workers."
        )
    return None
