"""JSON objects in files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.files import check_writable, write_text


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; raise ValueError where it holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(
            f"{path} is nested too deeply to be read; copy or download it again."
        ) from error
    except ValueError as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise ValueError(
            f"{path} is not valid JSON ({error}); copy or download it again."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__} where an object is expected; copy or "
            "download it again."
        )
    return content


def check_replaceable(path: Path, option: str, *keys: str) -> None:
    """Refuse to write an object to a file that holds anything but an earlier one.

    Args:
        path: the file; it need not exist.
        option: that names it.
        keys: that an earlier object has.

    Raises:
        ValueError: something else is there, or its folder cannot be written.
    """
    if path.exists():
        try:
            is_earlier = path.is_file() and read_json(path).keys() >= {*keys}
        except ValueError:
            is_earlier = False
        if not is_earlier:
            raise ValueError(
                f"{option} {path} is there, was not written by this command and stays; name "
                "another file."
            )
    check_writable(path.parent, option)


def write_json(path: Path, content: Mapping[str, Any], *, ensure_ascii: bool = True) -> None:
    """Write a JSON object, indented by two; a reader never finds half a file.

    Raises:
        ValueError: it holds NaN or an infinity, which JSON has not; the file is left as it was.
    """
    text = json.dumps(content, indent=2, ensure_ascii=ensure_ascii, allow_nan=False)
    write_text(path, text + "\n")
