"""PaliGemma, of the first generation; the fixture `pico` makes the second too."""

from pathlib import Path

from tests.helpers import make_pico


def make(folder: Path) -> None:
    """Save about 0.4 M random weights with the embedded model's processor."""
    make_pico(folder, "gemma")
