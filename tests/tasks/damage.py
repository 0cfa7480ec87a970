"""A seeded mutator of annotation files, and an independent count of the records in the result."""

import csv
import io
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from tests.official_files import write_coco, write_docvqa, write_gqa, write_vqav2

LINES = ("jsonl", "conversations jsonl")
VALUES: tuple[Any, ...] = (
    *(None, True, "", "x", "\0", "../../x", "9" * 30, "\ud800", [], {}, [[]], {"a": {"a": 1}}),
    *(-1, 0, 10**30, -(10**19), 1.5, 1e308, float("nan"), float("inf"), "\u202e" * 40, "a" * 5000),
)


def _table(root: Path, suffix: str) -> Path:
    root.mkdir()
    Image.new("RGB", (4, 4)).save(root / "a.png")
    rows = [("a.png", f"question, {i}", f"answer {i}") for i in range(6)]
    path = root / f"train.{suffix}"
    names = ("image", "instruction", "response")
    if suffix == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([names, *rows])
    else:
        lines = (json.dumps(dict(zip(names, row, strict=True))) for row in rows)
        path.write_text("\n".join(lines) + "\n")
    return path


def _conversations(root: Path, kind: str) -> Path:
    root.mkdir()
    Image.new("RGB", (4, 4)).save(root / "a.png")
    texts = [(f"<image>\nquestion {i}", f"answer {i}") for i in range(3)]
    records: list[dict[str, Any]] = [
        {
            "id": f"{i}",
            "image": "a.png",
            "conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}],
        }
        for i, (q, a) in enumerate(texts)
    ]
    for q, a in texts:
        parts = [{"type": "image"}, {"type": "text", "text": q.removeprefix("<image>")}]
        turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": a}]
        records.append({"messages": turns, "images": ["a.png"]})
    path = root / "train.json"
    is_array = kind == "conversations"
    lines = "\n".join(map(json.dumps, records))
    path.write_text(json.dumps(records) if is_array else lines + "\n")
    return path


def write_format(kind: str, root: Path) -> tuple[str, Path]:
    """Write a small whole split; return its task and the annotation file to damage."""
    if kind.startswith("conversations"):
        return "conversations", _conversations(root, kind)
    if kind in ("csv", "jsonl"):
        return "csv_qa", _table(root, kind)
    write, file = {
        "vqav2": (write_vqav2, "v2_OpenEnded_mscoco_train2014_questions.json"),
        "vqav2 answers": (write_vqav2, "v2_mscoco_train2014_annotations.json"),
        "gqa": (write_gqa, "questions1.2/train_balanced_questions.json"),
        "docvqa": (write_docvqa, "spdocvqa_qas/train_v1.0_withQT.json"),
        "coco_captioning": (write_coco, "annotations/captions_train2014.json"),
    }[kind]
    write(root)
    return kind.partition(" ")[0], root / file


def _places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a JSON value."""
    found = [path] if path else []
    inner = (
        content.items() if isinstance(content, dict)
        else enumerate(content) if isinstance(content, list) else ()
    )  # fmt: skip
    for key, value in inner:
        found += _places(value, (*path, key))
    return found


def _damage_json(text: str, random: Random) -> str:
    content = json.loads(text)
    for _ in range(random.randint(1, 3)):
        *above, last = random.choice(_places(content) or [(None,)])
        if last is None:
            break
        parent = content
        for key in above:
            parent = parent[key]
        deed = random.choice(("drop", "replace", "replace", "duplicate", "rename"))
        if deed == "drop":
            del parent[last]
        elif deed == "duplicate" and isinstance(parent, list):
            parent.insert(random.randint(0, len(parent)), parent[last])
        elif deed == "rename" and isinstance(parent, dict):
            parent[f"{last}_"] = parent.pop(last)
        else:
            parent[last] = deepcopy(random.choice(VALUES))
    return json.dumps(content)


def _damage_bytes(content: bytes, random: Random) -> bytes:
    data = bytearray(content)
    deed = random.choice(("cut", "flip", "insert", "repeat", "encoding", "bracket"))
    place = random.randrange(len(data))
    if deed == "cut":
        del data[place:]
    elif deed == "flip":
        for _ in range(random.randint(1, 4)):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    elif deed == "insert":
        data[place:place] = random.randbytes(random.randint(1, 9))
    elif deed == "repeat":
        data[place:place] = data[place : place + random.randint(1, 200)]
    elif deed == "bracket":
        data[place:place] = random.choice((b"[", b"{", b'"', b"\n", b",")) * random.choice(
            (1, 9999)
        )
    else:
        return content.decode().encode(random.choice(("utf-16", "utf-7", "cp037")))
    return bytes(data)


def damage(kind: str, content: bytes, random: Random) -> bytes:
    """Return the file with one to three faults of one sort."""
    if random.random() < 0.4:
        return _damage_bytes(content, random)
    lines = content.decode().splitlines()
    if kind == "csv":
        rows = list(csv.reader(lines))
        row = random.choice(rows)
        match random.choice(("cell", "short", "long", "twice")):
            case "cell":
                row[random.randrange(len(row))] = str(random.choice(VALUES))
            case "short":
                row.pop(random.randrange(len(row)))
            case "long":
                row.append("x")
            case _:
                rows.insert(random.randint(0, len(rows)), list(row))
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        return text.getvalue().encode(errors="surrogatepass")
    if kind in LINES:
        number = random.randrange(len(lines))
        lines[number] = _damage_json(lines[number], random)
        return "\n".join(lines).encode()
    return _damage_json(content.decode(), random).encode()


def num_records(kind: str, path: Path, root: Path) -> int:
    """Count the examples that a file lists, by Python's own readers; equal keys count apart."""
    marks = path.read_bytes()[:2]
    encoding = "utf-16" if marks in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if kind == "csv":
        with path.open(newline="", encoding=encoding) as file:
            rows = csv.reader(file, skipinitialspace=True)
            return sum(any(cell.strip() for cell in row) for row in list(rows)[1:])
    if kind in LINES:
        text = path.read_bytes().decode(encoding, "replace")
        return sum(bool(line.strip()) for line in text.split("\n"))
    if kind == "vqav2 answers":
        path = root / "v2_OpenEnded_mscoco_train2014_questions.json"
    # bytes of another encoding may stand in what no task reads
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    pairs: Callable[[Any], Any] = lambda found: found  # noqa: E731
    content = json.loads(text, object_pairs_hook=pairs, strict=False)
    if kind in ("gqa", "conversations"):
        return len(content)
    key = {"docvqa": "data", "coco_captioning": "images"}.get(kind, "questions")
    return len(dict(content)[key])
