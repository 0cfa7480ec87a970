"""Scenes: one to four coloured shapes, at most one in each cell of a 2 x 2 grid."""

import math
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

IMAGE_SIZE = 64
COLORS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 210, 40),
    "purple": (150, 50, 180),
    "orange": (240, 140, 30),
    "black": (20, 20, 20),
    "cyan": (60, 200, 210),
}
PLURALS = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "star": "stars",
    "cross": "crosses",
}
SHAPES = tuple(PLURALS)
CELLS = ("top left", "top right", "bottom left", "bottom right")
NUMBERS = ("zero", "one", "two", "three", "four")


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape in one cell."""

    color: str
    kind: str

    def __str__(self) -> str:
        return f"{self.color} {self.kind}"


Scene = dict[str, Shape]  # cell -> shape, in reading order; empty cells are absent


def random_scene(rng: Random, num_shapes: int | None = None) -> Scene:
    """Draw the content of a scene with `num_shapes` (default: one to four) shapes."""
    chosen = rng.sample(CELLS, num_shapes or rng.randint(1, 4))
    return {
        cell: Shape(rng.choice(tuple(COLORS)), rng.choice(SHAPES))
        for cell in CELLS
        if cell in chosen
    }


def render_scene(scene: Scene, rng: Random) -> Image.Image:
    """Draw a scene as an RGB image, 64 x 64 px; sizes, places and shades vary a little."""
    image = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), random_background(rng))
    draw = ImageDraw.Draw(image)
    half = IMAGE_SIZE // 2
    for cell, shape in scene.items():
        row, column = divmod(CELLS.index(cell), 2)
        x = column * half + half // 2 + rng.randint(-3, 3)
        y = row * half + half // 2 + rng.randint(-3, 3)
        fill = tuple(min(255, max(0, c + rng.randint(-15, 15))) for c in COLORS[shape.color])
        _draw_shape(draw, shape.kind, x, y, rng.randint(8, 13), fill)
    return image


def random_background(rng: Random) -> tuple[int, int, int]:
    """Draw a light colour."""
    return rng.randint(200, 255), rng.randint(200, 255), rng.randint(200, 255)


def _draw_shape(
    draw: ImageDraw.ImageDraw, kind: str, x: int, y: int, radius: int, fill: tuple[int, ...]
) -> None:
    if kind == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    elif kind == "square":
        draw.rectangle((x - radius, y - radius, x + radius, y + radius), fill=fill)
    elif kind == "triangle":
        corners = [(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)]
        draw.polygon(corners, fill=fill)
    elif kind == "cross":
        arm = max(2, radius // 3)
        draw.rectangle((x - arm, y - radius, x + arm, y + radius), fill=fill)
        draw.rectangle((x - radius, y - arm, x + radius, y + arm), fill=fill)
    else:
        assert kind == "star", kind
        points: list[tuple[float, float]] = []
        for k in range(10):
            length = radius if k % 2 == 0 else radius * 0.42
            angle = k * math.pi / 5 - math.pi / 2
            points.append((x + length * math.cos(angle), y + length * math.sin(angle)))
        draw.polygon(points, fill=fill)
