"""Draws the frames beside this file, as `labels.csv` describes them; run it to draw them anew."""

import csv
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

HERE = Path(__file__).parent
SIZE = (160, 120)
_FLOOR = {"south door": "tan", "north door": "darkseagreen", "platform": "lightsteelblue"}


def draw_frame(name: str, num_people: int, camera: str) -> Image.Image:
    """Draw what a camera sees: its floor, its door or its edge, and people where they happen to be.

    Args:
        name: of the frame, which seeds where people are.
        num_people: in it, five at most.
        camera: one of three.
    """
    rng = Random(name)
    frame = Image.new("RGB", SIZE, "gainsboro")
    draw = ImageDraw.Draw(frame)
    draw.rectangle((0, 70, *SIZE), fill=_FLOOR[camera])
    if camera == "platform":
        draw.rectangle((0, 104, *SIZE), fill="gold")
    else:
        draw.rectangle((60, 10, 100, 70), fill="sienna")
    for place in sorted(rng.sample(range(5), num_people)):
        left, top = 6 + 31 * place + rng.randrange(6), 26 + rng.randrange(14)
        draw.ellipse((left + 4, top, left + 16, top + 14), fill="black")
        draw.rectangle((left, top + 16, left + 20, top + 62), fill="navy")
    return frame


def main() -> None:
    """Draw the frame of each row."""
    with (HERE / "labels.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            frame = draw_frame(row["file"], int(row["count"]), row["camera"])
            frame.save(HERE / "frames" / row["file"], optimize=True)


if __name__ == "__main__":
    main()
