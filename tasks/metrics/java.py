"""Java programs of the official scorers, started alike on every machine.

A decimal comma, another encoding or a folder with blanks or other scripts in its name changes what
these programs read and print, or keeps them from finding their own files.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_INSTALL = (
    "install a Java runtime, for example with `apt-get install default-jre-headless`, so that "
    "`java -version` works"
)
# _JAVA_OPTIONS wins over the command line and over JAVA_TOOL_OPTIONS, whatever these say
_LANGUAGE = (
    "-Duser.language=en -Duser.country=US -Duser.region=US -Dfile.encoding=UTF-8 "
    "-Dsun.jnu.encoding=UTF-8"
)
_NOTICE = ("Picked up ", "NOTE: Picked up ")  # what Java says of such options
_REASONS = (  # what Java or the system says -> what it means
    ("OutOfMemoryError", "its memory ran out"),
    ("Could not reserve enough space", "there is not enough memory"),
    ("Cannot allocate memory", "there is not enough memory"),
    ("Invalid maximum heap size", "this Java cannot have so much memory"),
    ("UnsupportedClassVersionError", "this Java is too old for it"),
    ("Unable to access jarfile", "its jar is not there"),
    ("Could not find or load main class", "its jar is not there, or not whole"),
    ("Invalid or corrupt jarfile", "its jar is not whole"),
)


class UnavailableError(RuntimeError):
    """A program that a figure needs is not there or failed; says why and what to do."""


def run_java(command: list[str], text: str, folder: Path) -> str:
    """Give `text` to a Java program in a folder, and return what it prints.

    Raises:
        UnavailableError: there is no Java, or the program failed.
    """
    if shutil.which("java") is None:
        raise UnavailableError(f"Java was not found on the PATH: {_INSTALL}")
    try:
        done = subprocess.run(
            command,
            input=text.encode("utf-8", "replace"),
            capture_output=True,
            cwd=folder,
            env=_environment(os.environ),
        )
    except OSError as error:
        raise UnavailableError(f"Java could not be started ({error}): {_INSTALL}") from error
    if done.returncode != 0:
        raise UnavailableError(
            f"Java failed ({explain_end(done.returncode, done.stderr)}): {_INSTALL}"
        )
    return done.stdout.decode("utf-8")


@contextmanager
def java_environment() -> Iterator[None]:
    """Give the processes that are started inside the block the settings of `run_java`."""
    before = dict(os.environ)
    os.environ.update(_environment(before))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def plain_path(folder: Path) -> Iterator[Path]:
    """Give a folder, or a copy of it where its path has blanks or letters beyond ASCII in it."""
    if _is_plain(str(folder.resolve())):
        yield folder
        return
    usual = tempfile.gettempdir()
    with tempfile.TemporaryDirectory(dir=usual if _is_plain(usual) else "/tmp") as place:  # nosec B108
        yield Path(shutil.copytree(folder, Path(place) / "copy"))


def explain_end(code: int | None, message: bytes) -> str:
    """Return why a Java program ended, by its exit code and what it said on stderr."""
    text = message.decode("utf-8", "replace")
    lines = [line for line in text.strip().splitlines() if not line.startswith(_NOTICE)]
    shown = lines[-1].strip() if lines else "it gave no message"
    reason = next((reason for sign, reason in _REASONS if sign in text), None)
    if reason is not None:
        first = next(line.strip() for line in lines if any(sign in line for sign, _ in _REASONS))
        return f"{reason}: {first}"
    if code is not None and code < 0:
        return f"it was killed by signal {-code}, as where memory is short"
    return shown


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    options = f"{environment.get('_JAVA_OPTIONS', '')} {_LANGUAGE}".strip()
    return {**environment, "LC_ALL": "C.UTF-8", "_JAVA_OPTIONS": options}


def _is_plain(path: str) -> bool:
    return path.isascii() and " " not in path and "%" not in path
