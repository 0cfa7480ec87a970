"""The files of a run or a merge that go to the Hub, and those that stay on this machine."""

import fnmatch
import json
import os
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from common.hub_upload import known_tokens
from common.json_files import read_json
from common.near_paths import did_you_mean
from common.terminal_table import align
from finetuning.training.run_state import describe_unfinished
from models.run_record import RUN_FILE, read_run

_WEIGHTS = ("adapter_model.safetensors", "model*.safetensors")
_INDEX = "model.safetensors.index.json"
_GOES = (
    *_WEIGHTS,
    *("adapter_config.json", _INDEX, "config.json"),
    *("generation_config.json", "*processor_config.json", "tokenizer*", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.*"),
    *("README.md", RUN_FILE, "merge_report.json", "sweep.json"),
    *("sample.png", "curves.png", "sweep.png"),
    "evaluation/*/metrics.json",  # * stands for several folders too
)
_REPORT = "evaluation/*/report.html"
_TEXTS = (".json", ".md", ".html")
_VOCABULARY = ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json")
_TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{20,}")
_CHUNK, _OVERLAP = 2**22, 2**10  # bytes
_PATH = re.compile(r"/[^{}\n]*[^{}\n/]/?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """The files of a folder that go to the Hub.

    Attributes:
        folder: of the run or the merge.
        files: path in it -> the file, or its content where paths of this machine were in it.
        left_out: paths in it that stay; a folder of which nothing goes stands for its files.
        base: the base of an adapter, where it is not on the Hub.
    """

    folder: Path
    files: dict[str, Path | bytes]
    left_out: tuple[str, ...]
    base: str | None

    def describe(self) -> str:
        """Return the files with their sizes, what was changed in them, and what stays."""
        sizes = {name: _size(content) for name, content in self.files.items()}
        sizes["together"] = sum(sizes.values())
        lines = [align([[f"  {name}", f"{size:,} bytes"] for name, size in sizes.items()])]
        changed = [name for name, content in self.files.items() if isinstance(content, bytes)]
        if changed:
            lines.append(f"Paths of this machine are cut to names in {', '.join(changed)}.")
        if self.left_out:
            lines.append(f"Left out: {', '.join(self.left_out)}.")
        if self.base is not None:
            lines.append(
                f"Its base {self.base} is not on the Hub: who takes the adapter needs it too."
            )
        return "\n".join(lines)


def plan_upload(folder: Path, *, with_report: bool = False) -> Upload:
    """Choose the files that go to the Hub, and look through them.

    Args:
        folder: of a finished run or of a merge.
        with_report: take the pages of its evaluations too, which hold images of the data.

    Raises:
        ValueError: no run, not finished, weights that are cut or not all there, or a file holds a
            token.
    """
    if not folder.exists():
        raise ValueError(f"{folder} does not exist{did_you_mean(folder, 'name a run or a merge')}")
    if not (folder / RUN_FILE).is_file():
        raise ValueError(
            f"{folder} holds no run or merge of ours (it has no {RUN_FILE}); name its folder."
        )
    if unfinished := describe_unfinished(folder):
        raise ValueError(f"{folder} {unfinished}")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    patterns = (*_GOES, *([_REPORT] if with_report else []))
    going = {name: path for name, path in names.items() if _matches(name, patterns)}
    if not any(_matches(name, _WEIGHTS) for name in going):
        raise ValueError(f"{folder} holds no weights of an adapter or a model; name a whole run.")
    _check_weights(going)
    _check_secrets(going.values())
    private = _private_paths(path for path in going.values() if _tells(path, (".json",)))
    run = read_run(folder)
    is_local = "adapter_config.json" in going and run.get("base_revision") is None
    return Upload(
        folder=folder,
        files={name: _without_paths(path, private) for name, path in going.items()},
        left_out=tuple(_summed(names, going)),
        base=run.get("base_model") if is_local else None,
    )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(
        fnmatch.fnmatchcase(name, pattern)
        for pattern in patterns
        if ("/" in pattern) == ("/" in name)
    )


def _summed(names: Iterable[str], going: Collection[str]) -> Iterator[str]:
    """What stays; a top folder of which nothing goes stands for all that is in it."""
    used = {name.partition("/")[0] for name in going}
    seen = set()
    for name in names:
        if name in going:
            continue
        top = name.partition("/")[0]
        shown = name if top == name or top in used else f"{top}/"
        if shown not in seen:
            seen.add(shown)
            yield shown


def _check_weights(going: Mapping[str, Path]) -> None:
    """Raise ValueError where a file of weights is cut, or one that the index lists is missing."""
    if _INDEX in going:
        listed = read_json(going[_INDEX]).get("weight_map", {}).values()
        if missing := sorted(set(listed).difference(going)):
            raise ValueError(
                f"{going[_INDEX]} lists {missing[0]}, which is not in that folder, so nothing is "
                "pushed: copy or write the model again."
            )
    for path in (path for path in going.values() if path.suffix == ".safetensors"):
        try:
            with safe_open(path, "numpy"):  # reads the header, which must fit the file's size
                pass
        except SafetensorError as error:
            raise ValueError(
                f"{path} is damaged ({error}), so nothing is pushed: copy or write it again."
            ) from error


def _check_secrets(paths: Iterable[Path]) -> None:
    """Raise ValueError where a file holds a token of the Hub."""
    tokens = [token.encode() for token in known_tokens()]
    for path in paths:
        with path.open("rb") as file:
            before = b""
            while chunk := file.read(_CHUNK):
                text = before + chunk
                if _TOKEN.search(text) or any(token in text for token in tokens):
                    raise ValueError(
                        f"{path} holds a token of the Hugging Face Hub, so nothing is pushed: take "
                        "the token out of the file, and revoke it if anybody else has seen it."
                    )
                before = text[-_OVERLAP:]


def _private_paths(paths: Iterable[Path]) -> dict[str, str]:
    """Each absolute path that these JSON files hold as a value, and its last part."""
    found = {}
    for path in paths:
        for text in _strings(json.loads(path.read_text(encoding="utf-8"))):
            for part in re.split(r"[,=]", text):  # TASK=FOLDER,TASK=FOLDER
                if _PATH.fullmatch(part) and (part.count("/") > 1 or os.path.exists(part)):
                    found[part] = Path(part).name
    return {**found, str(Path.home()): "~"}


def _strings(value: Any) -> Iterator[str]:
    """The texts in a JSON value; of a command to repeat an evaluation its words."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry)
    elif isinstance(value, dict):
        for key, entry in value.items():
            is_command = key == "command" and isinstance(entry, str)
            yield from _strings(shlex.split(entry) if is_command else entry)


def _tells(path: Path, kinds: Sequence[str] = _TEXTS) -> bool:
    """Whether a file may say where things lie on this machine; words of a tokenizer do not."""
    return path.suffix in kinds and path.name not in _VOCABULARY


def _without_paths(path: Path, private: Mapping[str, str]) -> Path | bytes:
    """A file as it is; its content where a path of this machine had to be cut to a name."""
    if not _tells(path):
        return path
    before = path.read_text(encoding="utf-8")
    names = {json.dumps(place)[1:-1]: json.dumps(name)[1:-1] for place, name in private.items()}
    names |= private
    longest = sorted(names, key=len, reverse=True)  # before the folders that they lie in
    places = re.compile(rf"(?<![\w.:/-])({'|'.join(map(re.escape, longest))})(?![\w-])")
    after = places.sub(lambda found: names[found[1]], before)
    return path if after == before else after.encode()


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size
