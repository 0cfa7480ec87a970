"""Memory of a training step: what tensors take, and what the device has left for them."""

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import Trainer

from finetuning.training.compiled import as_written

if TYPE_CHECKING:
    from transformers import TrainingArguments

# Of what a device has left. A GPU's allocator loses some of it to gaps; a CPU's loses more, of
# small tensors several times what they take.
_SHARE = {"cuda": 0.9, "cpu": 0.5}


class StepMemory:
    """Measures the bytes of tensors that are made inside the block, without those there before.

    On an NVIDIA GPU the allocator says it. Elsewhere each operation's results are counted until
    they are freed; what an operation takes inside itself is not seen.

    Attributes:
        held: after the forward pass, set by `after_forward`: what waits for the backward pass.
        moments: the most during each operation, one after the other.
        attention: name of the attention kernel that ran; empty where none of PyTorch's did.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.held = self._live = self._before = 0
        self.moments: list[int] = []
        self.attention = ""
        self._modes = ExitStack()

    def __enter__(self) -> Self:
        # compiled layers would be left as they are for good if they first ran while this looks on
        self._modes.enter_context(as_written())
        self._modes.enter_context(_Count(self))
        if self.device.type == "cuda":
            self._before = torch.cuda.memory_allocated(self.device)
        return self

    def __exit__(self, *error: Any) -> None:
        self._modes.__exit__(*error)

    @property
    def peak(self) -> int:
        """Return the most at any moment."""
        return max(self.moments, default=0)

    def after_forward(self) -> None:
        """Note what is held now."""
        if self.device.type == "cuda":
            self._live = torch.cuda.memory_allocated(self.device) - self._before
        self.held = self._live

    def add(self, num_bytes: int) -> None:
        """Count bytes that are taken, or freed where it is negative."""
        self._live += num_bytes

    @contextmanager
    def operation(self) -> Iterator[None]:
        """Note the most that is taken inside the block."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        yield
        if self.device.type == "cuda":
            self._live = torch.cuda.max_memory_allocated(self.device) - self._before
        self.moments.append(self._live)


class _Count(TorchDispatchMode):
    """Sees each operation and tells a `StepMemory` of the storages that it makes."""

    def __init__(self, memory: StepMemory) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.memory = memory
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if "_scaled_dot_product_" in name and "backward" not in name:
            self.memory.attention = name.split("_scaled_dot_product_")[1].partition("_attention")[0]
        with self.memory.operation():
            if self.memory.device.type == "cuda":
                return func(*args, **(kwargs or {}))
            self._follow((args, kwargs), is_made_here=False)
            made = func(*args, **(kwargs or {}))
            self._follow(made, is_made_here=True)
            return made

    def _follow(self, values: Any, *, is_made_here: bool) -> None:
        """Count the storages of tensors that are new; those that come in were there before."""
        for tensor in tree_iter(values):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.known:
                num_bytes = storage.nbytes() if is_made_here else 0
                self.known.add(key)
                self.memory.add(num_bytes)
                weakref.finalize(storage, self._free, key, num_bytes)

    def _free(self, key: int, num_bytes: int) -> None:
        self.known.discard(key)
        self.memory.add(-num_bytes)


class MeasuredPeak:
    """Measures the most that a micro-batch of a training takes.

    Where no allocator says it, only a micro-batch with more tokens than any before is looked at:
    that takes the most, and looking takes time.

    Attributes:
        step: bytes, above what was there before the micro-batch.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.step = 0
        self._num_tokens = 0

    @contextmanager
    def watching(self, num_tokens: int) -> Iterator[None]:
        """Measure the micro-batch that runs inside the block.

        Args:
            num_tokens: of it, with its padding.
        """
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            yield
            self.step = max(self.step, torch.cuda.max_memory_allocated(self.device) - before)
        elif num_tokens <= self._num_tokens:
            yield
        else:
            self._num_tokens = num_tokens
            with StepMemory(self.device) as memory:
                yield
            self.step = max(self.step, memory.peak)


def available_bytes(device: torch.device) -> int:
    """Return what may be taken of the memory that a device has left."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        left = free + idle
    else:
        left = min([psutil.virtual_memory().available, *_left_in_containers()])
    return int(left * _SHARE.get(device.type, 0.5))


def _left_in_containers(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What the limits of control groups leave, of version 2 and of version 1; none elsewhere."""
    names = ("memory.max", "memory.current")
    older = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
    found = []
    for limit, used in (names, older):
        try:
            most, now = ((root / name).read_text().strip() for name in (limit, used))
        except OSError:
            continue
        found += [int(most) - int(now)] if most.isdigit() else []
    return [max(left, 0) for left in found]


def optimizer_ratio(arguments: "TrainingArguments", device: torch.device) -> float:
    """Return the bytes of an optimiser's states for each byte of the weights, by a step of it."""
    layer = torch.nn.Linear(256, 256, bias=False, device=device)
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, layer)
    optimizer = kind(layer.parameters(), **options)
    layer.weight.grad = torch.zeros_like(layer.weight)
    optimizer.step()
    states = [v for state in optimizer.state.values() for v in state.values()]
    size = sum(state.nbytes for state in states if isinstance(state, torch.Tensor))
    return size / layer.weight.nbytes
