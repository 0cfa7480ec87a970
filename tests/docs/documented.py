"""The commands that README and documentation show, and what stands in for models and data."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.helpers import REPOSITORY

_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
# The one rule by which a command of the documentation is tried: what stands in for a model of the
# Hub and for a data folder, and the options that keep a training or a scoring short.
STAND_INS = {
    r"google/paligemma[\w.-]*": "tiny",
    r"Qwen/[\w.-]+": "models/qwen2_vl",
    r"llava-hf/[\w.-]+": "models/llava",
    r"Salesforce/blip2[\w.-]*": "models/blip2",
    r"openai/clip[\w.-]*": "models/clip",
    r"/data/": "data/",
}
SHORT = {
    "train": "--max_train_samples 8 --max_eval_samples 4 --num_epochs 1 --overwrite --lora_rank 2",
    "eval": "--max_new_tokens 4",
    "merge": "--max_eval_samples 4",
    "ablate": "--dry_run",
    "pipeline": "--max_samples 12",
}


def pages() -> list[Path]:
    """README, then the documentation's English pages in the order of their names."""
    docs = REPOSITORY / "docs"
    found = (page for page in docs.rglob("*.md") if "ko" not in page.relative_to(docs).parts)
    return [REPOSITORY / "README.md", *sorted(found)]


def name_of(page: Path) -> str:
    """A page as tests name it."""
    return str(page.relative_to(REPOSITORY).with_suffix(""))


def commands(page: Path) -> list[str]:
    """The lines of a page's blocks of shell commands, without comments, one command each."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (line for block in _BLOCK.findall(text) for line in block.splitlines())
    return [part for line in lines for part in _parts(line)]


def _parts(line: str) -> Iterator[str]:
    for part in re.sub(r"\s+#.*", "", line).split(" && "):
        if part.strip():
            yield " ".join(part.split())


def program(command: str) -> tuple[str, list[str]]:
    """A command's kind and the words behind it.

    Returns:
        `train TASK`, `eval`, `merge` or another command of palitune and its words; of another
        program its name.
    """
    words = shlex.split(command)
    while words and re.fullmatch(r"\w+=\S*", words[0]):  # variables of its environment
        del words[0]
    if words[0] == "torchrun":
        start = next(place for place, word in enumerate(words) if word.endswith(".py"))
        return "torchrun", words[start:]
    if words[0] == "python" and words[1].startswith("finetuning/"):
        return f"train {Path(words[1]).stem}", words[2:]
    if words[0] == "python" and words[1] in ("eval.py", "merge_vlm.py"):
        return {"eval.py": "eval", "merge_vlm.py": "merge"}[words[1]], words[2:]
    if words[0] == "palitune" and words[1:2] == ["train"] and not words[2].startswith("-"):
        return f"train {words[2]}", words[3:]
    if words[0] == "palitune" and words[1:]:
        return words[1], words[2:]
    return words[0], words[1:]


def tried(kind: str, words: list[str]) -> list[str]:
    """A command's words with models and data replaced, and made short where it says no number."""
    words = [stand_in_for(word) for word in words]
    short = _without(SHORT.get(kind.split()[0], "").split(), words)
    if kind.startswith("train") and "--model_path" not in words:
        short += ["--model_path", "tiny"]  # in place of the default
    if "--predictions" in words or ("--dry_run" in words and kind == "ablate"):
        return words
    if kind == "merge" and "--evaluate" not in words:
        short = []
    return [*words, *short]


def _without(short: list[str], words: list[str]) -> list[str]:
    """The options that shorten a command, less those that it gives itself, each with its value."""
    found: list[str] = []
    for place, word in enumerate(short):
        name = word if word.startswith("--") else short[place - 1]
        found += [] if name in words else [word]
    return found


def stand_in_for(text: str) -> str:
    """A text with its models of the Hub and its data folders replaced."""
    for pattern, stand_in in STAND_INS.items():
        text = re.sub(pattern, stand_in, text)
    return text
