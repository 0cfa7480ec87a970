"""Code of the user's: a file or an installed module, loaded once, its faults told in a sentence."""

import inspect
import re
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from types import CodeType, ModuleType
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import msgspec

from common.files import file_hash
from common.near_paths import did_you_mean

_FRAME = re.compile(r'^ *File "(.+)", line (\d+), in ', re.M)  # as tracebacks are printed
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True)
class UserCode:
    """A module of the user's that was loaded.

    Attributes:
        name: what to type for it: an absolute path, or the dotted name of an installed module.
        path: its file.
        sha256: of the file's bytes.
        module: what it defines.
    """

    name: str
    path: Path
    sha256: str
    module: ModuleType


_LOADED: dict[Path, UserCode] = {}


class _FromSource(SourceFileLoader):
    """Compiles the file as it is, so that what runs has the hash that is recorded."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def load_code(text: str, option: str) -> UserCode:
    """Load a file or an installed module, unless that was done before.

    A file's module is called like the file, and its folder is searched last for what it imports:
    so processes that this one starts find it, and nothing of ours or of a library is hidden.

    Args:
        text: path of a `.py` file, or a dotted name.
        option: what names it, for errors.

    Raises:
        ValueError: there is none, its name is taken, or it stops with an error; says where.
    """
    path = Path(text).expanduser().absolute()
    if not (path.exists() or text.endswith(".py") or "/" in text):
        return _load_installed(text, option)
    if not path.is_file() or path.suffix != ".py":
        state = "is no Python file" if path.exists() else "does not exist"
        advice = "give a .py file, or the dotted name of an installed module"
        raise ValueError(f"{option} {path} {state}{did_you_mean(path, advice)}")
    path = path.resolve()
    if path in _LOADED:
        return _LOADED[path]
    name = path.stem
    _check_free(name, path, option)
    spec = spec_from_file_location(name, path, loader=_FromSource(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # as an import does; dataclasses look there for their own
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    digest = file_hash(path)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(_import_fault(error, path, option)) from error
    return _keep(UserCode(str(path), path, digest, module))


def load_unchanged(text: str, option: str) -> UserCode:
    """Load as `load_code` does; a file that was edited since then is not taken for what it was.

    Raises:
        ValueError: so it is, or as in `load_code`.
    """
    code = load_code(text, option)
    if file_hash(code.path) != code.sha256:
        raise ValueError(
            f"{option} {code.path} has changed since this program loaded it; start the program "
            "anew."
        )
    return code


def _check_free(name: str, path: Path, option: str) -> None:
    """Refuse a file that would hide a module, or be hidden by one."""
    try:
        spec = None if "." in name else find_spec(name)
        is_free = "." not in name and (spec is None or spec.origin == str(path))
    except ValueError:  # a module that was not found as others are, such as __main__
        is_free = False
    if name in sys.modules or not is_free:
        raise ValueError(
            f"{option} {path} cannot be loaded under its name: '{name}' is another module, or no "
            "module's name; rename the file, for instance to "
            f"my_{re.sub(r'[^0-9a-zA-Z_]', '_', name)}.py."
        )


def _load_installed(name: str, option: str) -> UserCode:
    if not _DOTTED.fullmatch(name):
        raise ValueError(
            f"{option} takes a .py file or the dotted name of an installed module, got '{name}'."
        )
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{option} {name} is neither a file here nor an installed module; give the path of "
                "a .py file, or install its package."
            ) from error
        raise ValueError(_import_fault(error, Path(name), option)) from error
    except (Exception, SystemExit) as error:
        raise ValueError(_import_fault(error, Path(name), option)) from error
    if module.__file__ is None:
        raise ValueError(f"{option} {name} is a folder without code; name a module in it.")
    path = Path(module.__file__).resolve()
    return _LOADED.get(path) or _keep(UserCode(name, path, file_hash(path), module))


def find_module(name: str) -> Path | None:
    """Return the file of an installed module; None where there is none of this dotted name."""
    try:
        spec = find_spec(name) if _DOTTED.fullmatch(name) else None
    except (ImportError, ValueError):
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin).resolve()


def _keep(code: UserCode) -> UserCode:
    _LOADED[code.path] = code
    return code


def _import_fault(error: BaseException, path: Path, option: str) -> str:
    if isinstance(error, SyntaxError):
        place = f"{error.filename or path}, line {error.lineno or 1}"
        return f"{option}: {place}: {error.msg}; mend it and try again."
    frames = [f for f in extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    own = [f for f in frames if f.filename == str(path)] or frames[1:]
    place = f"{own[-1].filename}, line {own[-1].lineno}" if own else str(path)
    if isinstance(error, SystemExit):
        return (
            f"{option}: {place} ends the program when it is imported; put that under "
            '`if __name__ == "__main__":`.'
        )
    return f"{option}: {place}: {said(error)}; mend it and try again."


def said(error: BaseException) -> str:
    """Return an error's kind and message, in one line without a full stop."""
    message = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def code_of(kind: Any) -> UserCode | None:
    """Return the user's code that a class or a function is of; None where it is of another."""
    name = kind.__module__
    return next((code for code in _LOADED.values() if code.module.__name__ == name), None)


def place_of(kind: Any) -> str:
    """Return the file and the line where a class or a function begins, for errors."""
    try:
        return f"{inspect.getsourcefile(kind)}, line {inspect.getsourcelines(kind)[1]}"
    except (OSError, TypeError):
        return str(kind.__module__)


def place_in_user_code(error: BaseException, ours: tuple[str, ...]) -> str | None:
    """Return where an error came out of the user's code; None where ours called on from there.

    Args:
        error: what was raised.
        ours: how the files of our packages begin.
    """
    frames = [(frame.filename, frame.lineno) for frame in extract_tb(error.__traceback__)]
    for file, line in reversed([*frames, *_FRAME.findall(str(error))]):  # the text: of a worker
        if Path(file) in _LOADED:
            return f"{file}, line {line}"
        if file.startswith(ours):
            return None
    return None


def find_classes(code: UserCode, base: type[Any], option: str) -> list[type[Any]]:
    """Return the complete classes of a kind that the user's code defines.

    Args:
        code: where to look; what it imports, and names that begin with `_`, do not count.
        base: the abstract class that they derive from.
        option: what named the code, for errors.

    Raises:
        ValueError: there is none, or one lacks a method or an attribute, or has one of another
            type.
    """
    kinds = [value for value in vars(code.module).values() if isinstance(value, type)]
    own = [
        kind
        for kind in dict.fromkeys(kinds)
        if issubclass(kind, base)
        and kind.__module__ == code.module.__name__
        and not kind.__name__.startswith("_")
    ]
    complete = [kind for kind in own if not inspect.isabstract(kind)]
    for kind in own:
        if kind not in complete and not any(kind in other.__mro__[1:] for other in own):
            raise ValueError(
                f"{place_of(kind)}: {kind.__name__} lacks {' and '.join(_methods(kind))}; a "
                f"{base.__name__} has {', '.join(_methods(base))}."
            )
    if not complete:
        raise ValueError(
            f"{option} {code.path} has no {base.__name__}; define a class in it that derives from "
            f"{base.__module__}.{base.__name__}."
        )
    for kind in complete:
        _check_attributes(kind, base)
    return complete


def check_name(name: str, kind: type[Any]) -> None:
    """Raise ValueError where a class of the user's has a name that cannot be typed and recorded."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{place_of(kind)}: {kind.__name__} has the name '{name}'; names are small letters, "
            "digits and _, and begin with a letter."
        )


def remedy(name: str, named: Any) -> str:
    """Return what to do about a name that is taken: a class may have inherited an alias."""
    return "give it another" if name == named.name else "set aliases = () in it, or others"


def _methods(kind: Any) -> list[str]:
    return [f"{name}()" for name in sorted(kind.__abstractmethods__)]


def _check_attributes(kind: type[Any], base: type[Any]) -> None:
    """Refuse a class that lacks an attribute of its base, or has it of another type."""
    for name, hint in get_type_hints(base).items():
        if get_origin(hint) is not ClassVar:
            continue
        (wanted,) = get_args(hint)
        if not hasattr(kind, name):
            raise ValueError(
                f"{place_of(kind)}: {kind.__name__} has no `{name}`; set it in the class, to a "
                f"value of the type {_shown(wanted)}."
            )
        value = getattr(kind, name)
        if any(get_origin(part) is type for part in get_args(wanted)) or _is_computed(value):
            continue
        try:
            msgspec.convert(value, wanted)
        except (msgspec.ValidationError, TypeError) as error:
            raise ValueError(
                f"{place_of(kind)}: {kind.__name__}.{name} must be {_shown(wanted)}, got {value!r}."
            ) from error


def _is_computed(value: Any) -> bool:
    return hasattr(value, "__get__")  # a property of its instances


def _shown(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    return text.replace("collections.abc.", "").replace("typing.", "")
