"""Telling that memory ran out, on a GPU or beside the processor."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return True where an error says that memory could not be had."""
    text = str(error).lower()
    # PyTorch raises a RuntimeError on the processor and a kind of it on a GPU
    is_torch = isinstance(error, RuntimeError) and "alloc" in text and "memory" in text
    return isinstance(error, MemoryError) or is_torch
