"""Settings from YAML files: checked against a Struct, and written out as options of a command."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

T = TypeVar("T")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+?)`(?: - at `\$\.?(.*)`)?")
_WRONG = re.compile(r"(.+?)(?: - at `\$\.?(.*)`)?")


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises:
        ValueError: not YAML.
    """
    import yaml

    try:
        return yaml.load(path.read_text(encoding="utf-8"), _loader())  # nosec B506
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply to be read; write it anew.") from error
    except (yaml.YAMLError, ValueError) as error:  # a date or a number may be none
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error


def _loader() -> Any:
    """Return a YAML 1.2 loader: only true and false are booleans, and `no` is a word."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> Any:
            """Refuse a key that stands twice; the library would silently take the last."""
            node = super().compose_mapping_node(anchor)  # before what `<<` names is merged into it
            seen = set()
            for key, _ in node.value:
                if (key.tag, str(key.value)) in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key {key.value} stands twice", problem_mark=key.start_mark
                    )
                seen.add((key.tag, str(key.value)))
            return node

    tag = "tag:yaml.org,2002:bool"
    Loader.yaml_implicit_resolvers = {
        first: [(name, rule) for name, rule in rules if name != tag]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    booleans = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
    Loader.add_implicit_resolver(tag, booleans, list("tTfF"))
    return Loader


def to_settings(content: Any, kind: type[T], path: Path, what: str) -> T:
    """Check what a file holds, or a part of it.

    Args:
        content: as read.
        kind: a msgspec Struct that forbids unknown fields.
        path: of the file, with the part's place behind it, for errors.
        what: it is, with an article: "a grid".

    Raises:
        ValueError: a key that is unknown (names the nearest known one), or a value of another
            kind; says where.
    """
    if content is None:
        raise ValueError(f"{path} is empty; it must hold {what}.")
    try:
        # not strict: YAML 1.1 reads 2e-4, without a dot, as text
        return msgspec.convert(content, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path}: {_sentence(str(error), kind, what)}") from error


def _sentence(message: str, kind: Any, what: str) -> str:
    """Return the message of msgspec with the place as users write it, and the nearest known key."""
    unknown = _UNKNOWN.fullmatch(message)
    if unknown is None:
        wrong = _WRONG.fullmatch(message)
        assert wrong is not None
        place = f"{wrong[2]}: " if wrong[2] else ""
        accepted = _choices(kind, wrong[2] or "")
        hint = f"; accepted are {', '.join(map(str, accepted))}" if accepted else ""
        return f"{place}{wrong[1][0].lower()}{wrong[1][1:]}{hint}."
    key, place = unknown[1], unknown[2] or ""
    known = [field.name for field in msgspec.structs.fields(_annotation(kind, place))]
    near = get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}."
    return f"{f'{place}.' if place else ''}{key} is no key of {what}; {hint}"


def _annotation(kind: Any, place: str) -> Any:
    """Return the type of the value at a place like `models[0].name`; of a list, an entry's."""
    for part in filter(None, re.sub(r"\[.*?\]", "", place).split(".")):
        annotation = {field.name: field.type for field in msgspec.structs.fields(kind)}[part]
        is_choice = get_origin(annotation) is Literal
        kind = annotation if is_choice else getattr(annotation, "__args__", (annotation,))[0]
    return kind


def _choices(kind: Any, place: str) -> tuple[Any, ...]:
    annotation = _annotation(kind, place)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def command_words(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield options as a command line has them; None and False are left out, a list is repeated."""
    for name, value in options.items():
        for entry in value if isinstance(value, list) else [value]:
            if entry is not None and entry is not False:
                yield f"--{name}"
                if entry is not True:
                    yield str(entry)
