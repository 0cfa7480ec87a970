"""Images a second from file to batch: ours beside the checkpoint's own processor and a plain loop.

    python benchmarks/data_path.py           # minutes
    python benchmarks/data_path.py --tiny    # few small images: tries the script out

PaliGemma's processor at 448 pixels on photographs like COCO's and on scanned pages, read by 0, 1
and 2 worker processes. All three ways must give the same pixels within 1e-6, or there is no row.
The limit is decoding and resizing by Pillow and nothing else: equal pixels cannot be had for less.
Without workers ours reads a batch in threads, one a processor, and so does the limit.
"""

import io
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import starmap
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.utils.data import DataLoader
from transformers import AutoProcessor, __version__
from transformers.image_utils import SizeDict

from common.json_files import write_json
from common.terminal_table import align
from common.threads import map_ahead
from common.workers import count_threads
from evaluation.prompting import make_prompter
from models.checkpoint import resolve
from models.encoding import Encoded
from models.loading import load_family
from tasks.base import Example, Turn
from tasks.decoding import decode_image
from tasks.images import BytesImage
from tasks.registry import get_task

Read = Callable[[Sequence[bytes]], list[Any]]

BATCH = 4  # as in training
ROUNDS = 5
TOLERANCE = 1e-6
QUESTION = "what is it?"
WAYS = ("ours", "processor", "plain")
LIMIT = "limit"
SIZE = 448
MODEL = Path(__file__).parents[1] / "models" / "tiny"


def photograph(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Draw smooth colours with a little noise, which compress about as a photograph does."""
    coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    noisy = smooth + rng.integers(-8, 9, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def page(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Draw lines of dark blocks, as words of a grey scan."""
    image = Image.new("L", (width, height), 255)
    draw = ImageDraw.Draw(image)
    for top in range(60, height - 60, 30):
        left = 80
        while left < width - 100:
            length = int(rng.integers(10, 90))
            draw.rectangle((left, top, left + length, top + 14), fill=int(rng.integers(0, 90)))
            left += length + 12
    return image


def stored(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the content of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def sources(tiny: bool) -> dict[str, list[bytes]]:
    """Make the files of each kind."""
    rng = np.random.default_rng(0)
    num_photographs, num_pages = (BATCH, 1) if tiny else (24 * BATCH, 4 * BATCH)
    size = (200, 260) if tiny else (2000, 2600)
    photographs = [photograph(640, 480, rng) for _ in range(num_photographs)]
    pages = [page(*size, rng) for _ in range(num_pages)]
    large = [photograph(*size, rng) for _ in range(num_pages)]
    return {
        "photograph 640 x 480, JPEG": [stored(image, "JPEG", quality=90) for image in photographs],
        "scan, 1 bit, PNG": [stored(image.convert("1"), "PNG") for image in pages],
        "scan, grey, JPEG": [stored(image, "JPEG", quality=90) for image in pages],
        "scan, colour, JPEG": [stored(image, "JPEG", quality=90) for image in large],
    }


class Files(torch.utils.data.Dataset[Any]):
    """Files, a batch of which is read by a function."""

    def __init__(self, files: Sequence[bytes], read: Read) -> None:
        self.files = files
        self.read = read

    def __len__(self) -> int:
        """Count the files."""
        return len(self.files)

    def __getitems__(self, places: Sequence[int]) -> list[Any]:
        """Read a batch."""
        return self.read([self.files[place] for place in places])


def reader(way: str) -> tuple[Read, Callable[[list[Any]], Any]]:
    """Return what reads files, and what makes a batch with `pixel_values` of what was read.

    The limit has none of them.
    """
    if way == LIMIT:

        def bare(file: bytes) -> None:
            decode_image(file, "image").resize((SIZE, SIZE), 3)  # grey as one channel

        return (
            lambda files: list(map_ahead(bare, files, count_threads())),
            lambda batch: {"pixel_values": torch.empty(len(batch), 0)},
        )
    if way == "ours":
        family = load_family(resolve("tiny"))
        family.image_processor.size = SizeDict(height=SIZE, width=SIZE)
        prompter = make_prompter(get_task("vqav2"), family)

        def asked(place: int, file: bytes) -> Example:
            image, turns = BytesImage(file, "image"), (Turn("user", QUESTION),)
            return Example(example_id=place, image=image, turns=turns, references=())

        def encoded(files: Sequence[bytes]) -> list[Encoded]:
            return prompter.encode_all(list(starmap(asked, enumerate(files))))

        return encoded, family.collate
    processor = AutoProcessor.from_pretrained(MODEL)
    processor.image_processor.size = {"height": SIZE, "width": SIZE}
    mean, std = processor.image_processor.image_mean, processor.image_processor.image_std

    def plain(file: bytes) -> torch.Tensor:
        image = Image.open(io.BytesIO(file)).convert("RGB").resize((SIZE, SIZE), 3)
        pixels = torch.tensor(np.array(image)).permute(2, 0, 1).float() / 255
        return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

    if way == "plain":
        return lambda files: list(map(plain, files)), lambda batch: {
            "pixel_values": torch.stack(batch)
        }

    def processed(batch: list[Image.Image]) -> Any:
        texts = [f"<image>{QUESTION}"] * len(batch)
        return processor(images=batch, text=texts, return_tensors="pt", padding=True)

    def opened(files: Sequence[bytes]) -> list[Image.Image]:
        return [Image.open(io.BytesIO(file)).convert("RGB") for file in files]

    return opened, processed


def measure(way: str, files: Sequence[bytes], num_workers: int) -> tuple[float, torch.Tensor]:
    """Return images a second, the median of several passes, and the pixels of all."""
    read, collate = reader(way)
    loader = DataLoader(
        Files(files, read),
        BATCH,
        num_workers=num_workers,
        collate_fn=collate,
        persistent_workers=num_workers > 0,
    )
    pixels = torch.cat([batch["pixel_values"] for batch in loader])  # and the workers have started
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in loader:
            pass
        times.append(time.perf_counter() - start)
    return len(files) / median(times), pixels


def rows_of(files: Sequence[bytes], kind: str, all_workers: Sequence[int]) -> list[dict[str, Any]]:
    """Measure every way on one kind of file, side by side for each number of workers."""
    rows = []
    for num_workers in all_workers:
        row: dict[str, Any] = {"images": kind, "workers": num_workers}
        expected: torch.Tensor | None = None
        for way in WAYS:
            row[way], pixels = measure(way, files, num_workers)
            expected = pixels if expected is None else expected
            check_equal(kind, way, pixels, expected)
        row[LIMIT], _ = measure(LIMIT, files, num_workers)
        rows.append(row | {"load": os.getloadavg()[0]})
    return rows


def check_equal(kind: str, way: str, pixels: torch.Tensor, ours: torch.Tensor) -> None:
    """Stop unless a way gives our pixels."""
    if pixels.shape != ours.shape or not float((pixels - ours).abs().max()) <= TOLERANCE:
        raise click.ClickException(
            f"{kind}: the {way} way gives other pixels than ours; speeds of unequal results mean "
            "nothing."
        )


def shown(row: dict[str, Any]) -> list[str]:
    """Return the cells of a row; ratios are ours over the other."""
    others = (*WAYS[1:], LIMIT)
    speeds = [f"{row[way]:.1f}" for way in ("ours", *others)]
    ratios = [f"{row['ours'] / row[way]:.2f}" for way in others]
    return [row["images"], str(row["workers"]), *speeds, *ratios, f"{row['load']:.1f}"]


@click.command()
@click.option("--tiny", is_flag=True, help="Take a few small images, to try the script.")
@click.option("--workers", default="0,1,2", show_default=True, help="Take these many workers.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the rows to this JSON file.")
def main(tiny: bool, workers: str, output: Path | None) -> None:
    """Print images a second of the three ways."""
    torch.set_num_threads(1)
    versions = f"torch {torch.__version__}, transformers {__version__}, Pillow {version('pillow')}"
    click.echo(f"{versions}, {platform.platform()}, {os.cpu_count()} processors")
    rows = []
    for kind, files in sources(tiny).items():
        rows += rows_of(files, kind, list(map(int, workers.split(","))))
        if output is not None:
            write_json(output, {"versions": versions, "rows": rows})
    names = [*WAYS, LIMIT, *(f"x {way}" for way in (*WAYS[1:], LIMIT))]
    head = ["images", "workers", *names, "load"]
    click.echo(align([head, *map(shown, rows)], left=(0,)))


if __name__ == "__main__":
    main()
