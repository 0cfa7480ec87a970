"""The pre-training of the embedded tiny PaliGemma: terse commands over drawn scenes.

No fine-tuning prompt or answer format of the embedded data occurs here. The tasks share with these
commands the pictures and the words, so that a minute of LoRA can teach a task, and must.
"""

from collections.abc import Callable
from random import Random

from PIL import Image

from synthetic.pages import (
    CHARACTERS,
    NUM_COLUMNS,
    NUM_ROWS,
    Page,
    random_form,
    random_text,
    render_character,
    render_page,
)
from synthetic.scenes import (
    CELLS,
    COLORS,
    NUMBERS,
    PLURALS,
    SHAPES,
    Shape,
    random_scene,
    render_scene,
)

# Words that the tasks may use. A frozen embedding that was never trained is out of LoRA's reach,
# so each word is read and written here, in `say`, without any meaning attached.
_EVERYDAY = """
    crimson emerald navy gold violet amber dark turquoise
    a an the this that it and or not no yes none in on at of with next to from for by
    is are there what which how many where who does do has have both same different
    color colour shape shapes picture image drawing photo showing shows small simple
    describe caption answer question read written line row column first last second
    third fourth page text form field value number code digit digits left right above
    below side corner half empty placed near only one than more less en say see
    zero one two three four five six seven eight nine
"""
WORDS = (
    *COLORS,
    *SHAPES,
    *PLURALS.values(),
    *NUMBERS,
    *(word for cell in CELLS for word in cell.split()),
    *_EVERYDAY.split(),
)

# How the commands begin. What stands here and above decides the tokenizer, and so what the weights
# that lie beside this file mean.
_COMMANDS = "grid list cell check same count page rows row get glyph say"
COMMANDS = tuple(_COMMANDS.split())

Skill = Callable[[Random], tuple[Image.Image, str, str]]  # rng -> picture, prompt, target


def grid(rng: Random) -> tuple[Image.Image, str, str]:
    """List all four cells, empty ones too: the k-th part of the target is always the k-th cell."""
    scene = random_scene(rng)
    return render_scene(scene, rng), "grid", ", ".join(str(scene.get(c, "none")) for c in CELLS)


def listing(rng: Random) -> tuple[Image.Image, str, str]:
    """List the shapes in reading order."""
    scene = random_scene(rng)
    return render_scene(scene, rng), "list", ", ".join(map(str, scene.values()))


def cell(rng: Random) -> tuple[Image.Image, str, str]:
    """Name the content of one cell."""
    scene = random_scene(rng)
    wanted = rng.choice(CELLS if rng.random() < 0.3 else tuple(scene))
    return render_scene(scene, rng), f"cell {wanted}", str(scene.get(wanted, "none"))


def kind(rng: Random) -> tuple[Image.Image, str, str]:
    """Name the kind of shape in one cell, without its colour."""
    scene = random_scene(rng)
    wanted = rng.choice(tuple(scene))
    return render_scene(scene, rng), f"kind {wanted}", scene[wanted].kind


def check(rng: Random) -> tuple[Image.Image, str, str]:
    """Ask for a colour or a kind in one cell; the answer is yes or no."""
    scene = random_scene(rng)
    wanted = rng.choice(tuple(scene))
    shape = scene[wanted]
    truth, others = rng.choice(((shape.color, tuple(COLORS)), (shape.kind, SHAPES)))
    is_true = rng.random() < 0.5
    claim = truth if is_true else rng.choice([word for word in others if word != truth])
    prompt = f"check {wanted} {claim}"
    return render_scene(scene, rng), prompt, "yes" if is_true else "no"


def same(rng: Random) -> tuple[Image.Image, str, str]:
    """Ask for the same colour in two cells; the answer is yes or no."""
    scene = random_scene(rng, rng.randint(2, 4))
    first, second = rng.sample(tuple(scene), 2)
    is_same = rng.random() < 0.5
    if is_same:
        scene[second] = Shape(scene[first].color, scene[second].kind)
    elif scene[first].color == scene[second].color:
        others = [color for color in COLORS if color != scene[first].color]
        scene[second] = Shape(rng.choice(others), scene[second].kind)
    return render_scene(scene, rng), f"same {first}, {second}", "yes" if is_same else "no"


def count(rng: Random) -> tuple[Image.Image, str, str]:
    """Ask for the number of shapes."""
    scene = random_scene(rng)
    return render_scene(scene, rng), "count", NUMBERS[len(scene)]


def grid_of_characters(rng: Random) -> tuple[Image.Image, str, str]:
    """List all sixteen places of a page, blank ones too, for the reason given in `grid`."""
    page = _page(rng)
    padded = [row.ljust(NUM_COLUMNS, "-") for row in page.rows]
    padded += ["-" * NUM_COLUMNS] * (NUM_ROWS - len(padded))
    return render_page(page, rng), "page", " ".join(padded)


def rows(rng: Random) -> tuple[Image.Image, str, str]:
    """Read the rows of a page."""
    page = _page(rng)
    return render_page(page, rng), "rows", " ".join(page.rows)


def row(rng: Random) -> tuple[Image.Image, str, str]:
    """Read one row of a page."""
    page = _page(rng)
    index = rng.randrange(len(page.rows))
    return render_page(page, rng), f"row {NUMBERS[index + 1]}", page.rows[index]


def field(rng: Random) -> tuple[Image.Image, str, str]:
    """Read the value beside one key of a form."""
    page = random_form(rng)
    key = rng.choice(tuple(page.fields))
    return render_page(page, rng), f"get {key}", page.fields[key]


def character(rng: Random) -> tuple[Image.Image, str, str]:
    """Read one large printed character."""
    shown = rng.choice(CHARACTERS)
    return render_character(shown, rng), "glyph", shown


def say(rng: Random) -> tuple[Image.Image, str, str]:
    """Repeat words and numbers, whatever the image."""
    image = (
        render_scene(random_scene(rng), rng) if rng.random() < 0.5 else render_page(_page(rng), rng)
    )
    words = [
        str(rng.randint(0, 99)) if rng.random() < 0.1 else rng.choice(WORDS)
        for _ in range(rng.randint(1, 4))
    ]
    text = rng.choice((" ", ", ", "; ")).join(words) + rng.choice(("", "", ".", "?", ":"))
    return image, f"say {text}", text


def _page(rng: Random) -> Page:
    return random_form(rng) if rng.random() < 0.3 else random_text(rng)


# Dense targets first: they make the positions of the picture addressable, which single look-ups
# alone did not learn in an hour.
DENSE: tuple[Skill, ...] = (*[grid] * 4, *[grid_of_characters] * 5, cell, character, say)
ALL: tuple[Skill, ...] = (
    *(grid, listing, count, same, character, rows, grid_of_characters, grid_of_characters),
    *[cell] * 2,
    *[kind] * 4,
    *[check] * 2,
    *[row] * 2,
    *[field] * 3,
    *[say] * 2,
)
