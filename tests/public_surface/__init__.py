"""Snapshots of what users type and read; `make public-surface` writes them anew."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
_IS_UPDATED = "PALITUNE_UPDATE_SURFACE" in os.environ


def check_snapshot(name: str, found: Any) -> None:
    """Compare with the snapshot of this name, or write it where the command above asks for it."""
    path = FOLDER / f"{name}.json"
    text = json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if _IS_UPDATED:
        path.write_text(text, encoding="utf-8")
    assert json.loads(text) == json.loads(path.read_text(encoding="utf-8")), (
        f"{name} changed; if that is intended, run `make public-surface` and commit the diff"
    )


def check_file(name: str, path: Path, *, any_key: Iterable[str] = ()) -> None:
    """Compare the keys and types of a JSON or JSON Lines file with their snapshot.

    Args:
        name: of the snapshot.
        path: the file.
        any_key: keys of objects whose own keys are data, such as the names of modules.
    """
    text = path.read_text(encoding="utf-8")
    is_lines = path.suffix == ".jsonl"
    content = [json.loads(line) for line in text.splitlines()] if is_lines else json.loads(text)
    check_snapshot(name, _shape(content, frozenset(any_key)))


def _shape(value: Any, any_key: frozenset[str], is_map: bool = False) -> Any:
    """Return the value with a type name for each scalar and one entry a type in each list."""
    if isinstance(value, dict) and is_map:
        shapes = [_shape(entry, any_key) for entry in value.values()]
        return {"<any>": _distinct(shapes)}
    if isinstance(value, dict):
        return {key: _shape(entry, any_key, key in any_key) for key, entry in value.items()}
    if isinstance(value, list):
        return _distinct([_shape(entry, any_key) for entry in value])
    return type(value).__name__


def _distinct(shapes: list[Any]) -> list[Any]:
    by_text = {json.dumps(shape, sort_keys=True): shape for shape in shapes}
    return [by_text[text] for text in sorted(by_text)]
