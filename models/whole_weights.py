"""Weights read from a checkpoint, all of them: the library fills gaps with random numbers."""

import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.json_files import read_json

logger = logging.getLogger(__name__)

INDEX = "model.safetensors.index.json"  # of a model in several files


def load_whole(
    kind: Any,
    place: str,
    *,
    is_unused: Callable[[str], bool] = lambda name: False,
    **arguments: Any,
) -> Any:
    """Load a model of transformers, each of whose weights is in the checkpoint.

    Args:
        kind: class of the model.
        place: folder or Hub id.
        is_unused: whether a layer or a weight, by its full name, does not reach the output.
        **arguments: for `from_pretrained`.

    Raises:
        ValueError: files are absent or damaged, or weights are missing or of another shape; says
            how many and names the first.
    """
    with _readable(place):
        model, found = kind.from_pretrained(
            place, output_loading_info=True, ignore_mismatched_sizes=True, **arguments
        )
    shapes = {name: (stored, wanted) for name, stored, wanted in found["mismatched_keys"]}
    missing = {name for name in (*found["missing_keys"], *shapes) if not is_unused(name)}
    surplus = {name for name in found["unexpected_keys"] if not is_unused(name)}
    if missing:
        first = min(missing)
        what = f"lack {len(missing)} of the model's, {first} first"
        if first in shapes:
            stored, wanted = map(tuple, shapes[first])
            what = f"do not fit in {len(missing)}: {first} is {stored}, the config says {wanted}"
        named = f"; {len(surplus)} have other names, as {min(surplus)}" if surplus else ""
        raise ValueError(
            f"The weights of {place} {what}{named}. Copy or download them again, with the "
            "config.json that they were saved with."
        )
    if surplus:
        logger.warning(
            "Warning: the model has no place for %d weights of %s, %s first; they are not used.",
            len(surplus),
            place,
            min(surplus),
        )
    return model


def read_index(path: Path) -> dict[str, Any]:
    """Return the content of an index of shards, whose `weight_map` is weight -> file.

    Raises:
        ValueError: it is none.
    """
    index = read_json(path)
    files = index.get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise ValueError(
            f"{path} is no index of safetensors shards: it has no weight_map of files; copy or "
            "download it again."
        )
    return index


@contextmanager
def _readable(place: str) -> Iterator[None]:
    from json import JSONDecodeError

    from safetensors import SafetensorError

    try:
        yield
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"The weights of {place} are pickled, and are damaged or hold more than tensors, whose "
            "code is never run; save or download them as safetensors."
        ) from error
    # a shard is absent or cut, or the index of shards is no index
    except (OSError, EOFError, SafetensorError, JSONDecodeError, KeyError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"The weights of {place} cannot be read ({reason}); copy or download them again."
        ) from error
