"""Data sets of people's own, each as the tools of its format write it: four images and answers."""

import csv
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

COLORS = ("red", "green", "blue", "white")


def image_bytes(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16), color).save(buffer, "png")
    return buffer.getvalue()


def write_images(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, color in enumerate(COLORS):
        (folder / f"{number}.png").write_bytes(image_bytes(color))


def write_csv(path: Path, rows: Iterable[Sequence[str]], encoding: str) -> Path:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    path.write_bytes(buffer.getvalue().encode(encoding))
    return path


def write_table(folder: Path, encoding: str, name: str = "t.csv") -> Path:
    """A table in Korean, as a spreadsheet saves it in that encoding, and its images."""
    write_images(folder)
    rows = [(f"{n}.png", "무슨 색?", f"색 {color}") for n, color in enumerate(COLORS)]
    return write_csv(folder / name, [("image", "question", "answer"), *rows], encoding)


def write_image_folder(folder: Path, splits: Sequence[str], suffix: str = "csv") -> Path:
    """Images with captions in a folder for each split, as `datasets` documents `imagefolder`."""
    for split in splits:
        write_images(folder / split)
        rows = [
            {"file_name": f"{number}.png", "text": f"a {color} picture"}
            for number, color in enumerate(COLORS)
        ]
        path = folder / split / f"metadata.{suffix}"
        if suffix == "jsonl":
            path.write_text("\n".join(map(json.dumps, rows)))
        elif suffix == "parquet":
            from pyarrow import Table, parquet

            parquet.write_table(Table.from_pylist(rows), path)
        else:
            write_csv(path, [list(rows[0]), *(list(row.values()) for row in rows)], "utf-8")
    return folder


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    """Files in a plain tar file one after the other, as webdataset's TarWriter adds them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_shards(folder: Path, stem: str = "train") -> Path:
    """Two shards of two samples: an image, and its question and answer in JSON."""
    for shard in range(2):
        files = {}
        for number in (2 * shard, 2 * shard + 1):
            said = {"question": "which colour?", "answer": COLORS[number], "source": "drawn"}
            files[f"{number:06}.png"] = image_bytes(COLORS[number])
            files[f"{number:06}.json"] = json.dumps(said).encode()
        write_tar(folder / f"{stem}-{shard:03}.tar", files)
    return folder
