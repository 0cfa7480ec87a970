"""A base and two adapters on disk, and a server of them in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from PIL import Image
from transformers import PaliGemmaForConditionalGeneration

from tests.helpers import REPOSITORY
from tests.merging.algebra.make_adapters import train
from tests.palitune.commands import run_command

QUESTION = "what color is it?"
TEMPLATE = "tell {question}"  # of the first run
NAMES = ("base", "one/run", "two/run")
OPTIONS = ("--device", "cpu", "--quantization", "none")


def write_models(folder: Path, pico: Path) -> list[Path]:
    """A base and two runs on it, a LoRA and a DoRA of other layers; the first has an evaluation.

    The first writes two tokens at least, and the second draws its answers.
    """
    (folder / "base").symlink_to(pico)
    model = PaliGemmaForConditionalGeneration.from_pretrained(pico, dtype=torch.float32)
    places = [folder / name for name in NAMES]
    train(model, places[1], r=4, target_modules=["q_proj", "v_proj"])
    train(model, places[2], r=2, target_modules=["gate_proj", "o_proj"], use_dora=True)
    for place, asked in zip(
        places[1:],
        (
            {"prompt_template": TEMPLATE, "min_new_tokens": 2},
            {"prompt_template": "answer en {question}", "do_sample": True, "temperature": 9.0},
        ),
        strict=True,
    ):
        settings = {"quantization": "none", **asked}
        write_json(place / "run.json", {"task": "vqav2", "settings": settings})
    image = draw(folder / "seen.png", (200, 30, 90))
    (folder / "damaged.png").write_text("no picture")
    rows = [
        {"id": 1, "question": "is it gone?", "image": str(folder / "gone.png")},
        {"id": 2, "question": "is it damaged?", "image": str(folder / "damaged.png")},
        {"id": 3, "question": "is it seen?", "image": str(image)},
    ]
    (places[1] / "evaluation/val").mkdir(parents=True)
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (places[1] / "evaluation/val/predictions.jsonl").write_text(lines, encoding="utf-8")
    return places


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def draw(path: Path, color: tuple[int, int, int]) -> Path:
    """A picture of one colour with a black part."""
    image = Image.new("RGB", (80, 60), color)
    image.paste((0, 0, 0), (10, 10, 30, 50))
    image.save(path)
    return path


@cache
def predict(image: Path, model: Path, *more: object, question: str = QUESTION) -> str:
    """What `palitune predict` answers about an image."""
    words = ("--task", "vqav2", "--question", question, *OPTIONS, "--json", *more)
    result = run_command("predict", image, "--model_path", model, *words)
    return str(json.loads(result.stdout)["prediction"])


class Served:
    """A server of models, on a free port."""

    def __init__(self, models: Sequence[Path], image: Path) -> None:
        self.models, self.image = models, image
        words = [word for model in models for word in ("--model_path", str(model))]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "palitune.main", "serve", *words, *OPTIONS, "--port", "0"],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # where the tests run in the background, it would not hear of Ctrl-C otherwise
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert self.process.stdout is not None
        self.greeting = self.process.stdout.readline()
        self.url = self.greeting.rpartition("http")[2].partition(" ")[0]
        self.url = f"http{self.url}"

    def ask(
        self, path: str, content: Any = None, headers: Mapping[str, str] = {}
    ) -> tuple[int, str]:
        """Send JSON, or bytes as they are; return the status and the text of the answer."""
        body = content if isinstance(content, bytes | None) else json.dumps(content).encode()
        request = Request(self.url + path, body, dict(headers))
        try:
            with urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def begin(self, path: str, content: Any) -> HTTPConnection:
        """Send JSON, and leave the answer to be read or not."""
        connection = HTTPConnection(self.url.removeprefix("http://"), timeout=1)
        connection.request("POST", path, json.dumps(content))
        return connection

    def stop(self, number: int) -> tuple[int, str]:
        """Send a signal; return the exit code and what stands on standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors
