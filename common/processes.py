"""The processes of one command that torchrun or accelerate started together."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

# one process may answer for long after another has nothing left to do
_PATIENCE = timedelta(hours=12)


def rank() -> int:
    """Return this process's number; 0 where it is the only one."""
    return int(os.environ.get("RANK", "0"))


def num_processes() -> int:
    """Return how many processes work together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def connected() -> Iterator[None]:
    """Let the processes exchange objects inside the block; a trainer connects its own."""
    if num_processes() == 1:  # and PyTorch is not imported for it
        yield
        return
    import torch.distributed as dist

    if dist.is_initialized():
        yield
        return
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def gather(content: Any) -> list[Any]:
    """Return the content that each process gives, in the order of their numbers."""
    if num_processes() == 1:
        return [content]
    import torch.distributed as dist

    contents: list[Any] = [None] * num_processes()
    dist.all_gather_object(contents, content)
    return contents


def of_first(make: Any) -> Any:
    """Return what the first process makes; the others wait for it.

    Args:
        make: called by the first process alone.
    """
    return gather(make() if rank() == 0 else None)[0]


def check_launcher() -> None:
    """Verify that `accelerate launch` was not set to split the model over processes.

    Raises:
        ValueError: it was.
    """
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() in ("1", "true", "yes"):
            raise ValueError(
                f"Each process holds the whole model here, and ACCELERATE_USE_{name} asks to split "
                "it; start by torchrun, or set accelerate to several GPUs without FSDP, DeepSpeed "
                "or Megatron-LM."
            )
