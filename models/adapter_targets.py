"""Which layers an adapter's config names, by PEFT's rules.

Format: PEFT 0.21.2, https://github.com/huggingface/peft, `peft/tuners/tuners_utils.py`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from models.names import canonical, former_names

T = TypeVar("T")


def by_pattern(pattern: Mapping[str, T] | None, name: str, default: T) -> T:
    """Return the value of the first key that matches; as `peft.utils.other.get_pattern_key`.

    Args:
        pattern: values by regular expression.
        name: of the module, as it was called when it was trained.
        default: where no key matches.
    """
    found: Iterator[T] = (
        value
        for key, value in (pattern or {}).items()
        if re.match(rf"(.*\.)?({key})$", name) is not None
    )
    return next(found, default)


def exact_pattern(names: Iterable[str]) -> str:
    """Return a regular expression that matches these module names in full and no others.

    Layers that have the same modules are put together, `layers.(?:0|1).(?:q|v)`: one line for
    what would be hundreds of names.
    """
    layers: dict[tuple[str, str], set[int]] = defaultdict(set)
    patterns = []
    for name in names:
        match = re.fullmatch(r"(.+?\.)(\d+)(\..+)", name)
        if match is None:
            patterns.append(re.escape(name))
        else:
            layers[match[1], match[3]].add(int(match[2]))
    alike: dict[tuple[str, tuple[int, ...]], list[str]] = defaultdict(list)
    for (head, tail), indices in layers.items():
        alike[head, tuple(sorted(indices))].append(tail)
    patterns += [
        f"{re.escape(head)}{_one_of(map(str, indices))}{_one_of(map(re.escape, sorted(tails)))}"
        for (head, indices), tails in alike.items()
    ]
    return "|".join(sorted(patterns))


def _one_of(choices: Iterable[str]) -> str:
    return f"(?:{'|'.join(choices)})"


def targeted(config: Mapping[str, Any], names: Iterable[str]) -> set[str]:
    """Return the names that a config's `target_modules` fits, by PEFT's rule.

    `peft/tuners/tuners_utils.py`, `check_target_module_exists`.
    """
    return {name for name in names if _is_targeted(config, name)}


def meant(config: Mapping[str, Any], layers: Iterable[str], model_type: str | None) -> set[str]:
    """Return the layers that fit under their own name, or under one that they had before."""
    return {
        layer for layer in layers if targeted(config, [layer, *former_names(layer, model_type)])
    }


def _is_targeted(config: Mapping[str, Any], name: str) -> bool:
    wanted, excluded = config.get("target_modules"), config.get("exclude_modules")
    if wanted is None or (excluded and _fits(excluded, name)):
        return False
    if any(re.match(rf"(^|.*\.){m}($|\..*)", name) for m in config.get("modules_to_save") or ()):
        return False
    if wanted == "all-linear":
        return name.rpartition(".")[2] not in ("lm_head", "embed_tokens")
    if not _fits(wanted, name):
        return False
    chosen = config.get("layers_to_transform")
    if isinstance(wanted, str) or chosen is None or chosen == []:
        return True
    patterns = config.get("layers_pattern") or [r"[^.]*"]
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if match := re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", name):
            return int(match[1]) in ([chosen] if isinstance(chosen, int) else chosen)
    return False


def _fits(wanted: str | Iterable[str], name: str) -> bool:
    if isinstance(wanted, str):
        return re.fullmatch(wanted, name) is not None
    return any(name == entry or name.endswith(f".{entry}") for entry in wanted)


def saved_whole(entries: Iterable[str] | None, name: str) -> bool:
    """Return True where a parameter is of a module that is saved whole.

    PEFT takes each module whose name ends with an entry, `norm` for `input_layernorm` too
    (`peft/utils/other.py`, `_set_trainable`).

    Args:
        entries: a config's `modules_to_save`.
        name: the parameter's canonical one.
    """
    return any(f"{m}." in name or f"{canonical(m)}." in name for m in entries or ())
