"""Objects of JSON in which no key comes twice, since one of its values would be lost."""

import json
from typing import Any

import msgspec


def with_single_keys(found: dict[str, Any], content: bytes, where: object) -> dict[str, Any]:
    """Return an object as it was decoded.

    Args:
        found: the object.
        content: of which it was decoded.
        where: how an error calls it.

    Raises:
        ValueError: a key comes twice in it, at any depth.
    """
    # a lost value takes its key's quotes along; only then the slower reader looks
    if content.count(b'"') != msgspec.json.encode(found).count(b'"'):
        json.loads(content, object_pairs_hook=lambda pairs: _checked(pairs, where))
    return found


def _checked(pairs: list[tuple[str, Any]], where: object) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{where} has the key '{key}' twice; keep one of them.")
        found[key] = value
    return found
