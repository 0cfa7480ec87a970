"""Steps that visit what is trained, and not all of a model's modules."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn import Module, ParameterList


@contextmanager
def short_walks(model: Module) -> Iterator[ParameterList]:
    """Keep `train()` and `zero_grad()` of a model short inside the block.

    The library's loop calls both at each step, and each visits all modules: at PaliGemma's 3B they
    take 6 ms of Python, in which a GPU waits.

    Yields:
        What is trained, whose `parameters()` are soon listed.
    """
    trained = ParameterList(weight for weight in model.parameters() if weight.requires_grad)
    kind = type(model)

    def train(mode: bool = True) -> Module:
        return model if mode and model.training else kind.train(model, mode)

    model.train = train  # type: ignore[method-assign]
    model.zero_grad = trained.zero_grad  # type: ignore[method-assign]
    try:
        yield trained
    finally:
        del model.train, model.zero_grad
