"""Compositional questions about scenes, each with its answer and its program.

In a program `@k` stands for the id of the object in the k-th cell.
"""

from dataclasses import dataclass

from synthetic.scenes import CELLS, COLORS, NUMBERS, SHAPES, Scene

YES_NO = ("yes", "no")
# (cell, words between) -> the cell that they lead to
RELATIONS = {
    ("top left", "to the right of"): "top right",
    ("top right", "to the left of"): "top left",
    ("bottom left", "to the right of"): "bottom right",
    ("bottom right", "to the left of"): "bottom left",
    ("top left", "below"): "bottom left",
    ("top right", "below"): "bottom right",
    ("bottom left", "above"): "top left",
    ("bottom right", "above"): "top right",
}

Operation = tuple[str, str, tuple[int, ...]]  # operation, argument, dependencies


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with what the official files say of it.

    Attributes:
        types: structural, semantic and detailed type.
        group: the global group, for query questions only.
        local_group: what the question is about.
        choices: the answers in its scope.
    """

    text: str
    answer: str
    full_answer: str
    types: tuple[str, str, str]
    group: str | None = None
    local_group: str
    choices: tuple[str, ...]
    program: tuple[Operation, ...]


def query_color(scene: Scene, cell: str, reworded: bool = False) -> Question:
    """Ask for the color of a shape."""
    wording = "what is the color of the shape in the {}?"
    text = wording if reworded else "what color is the shape in the {}?"
    return Question(
        text=text.format(cell),
        answer=scene[cell].color,
        full_answer=f"the shape in the {cell} is {scene[cell].color}",
        types=("query", "attr", "directOf"),
        group="color",
        local_group=f"{cell}-shape_color",
        choices=tuple(COLORS),
        program=(*_select(scene, cell), ("query", "color", (2,))),
    )


def query_shape(scene: Scene, cell: str, reworded: bool = False) -> Question:
    """Ask which shape it is."""
    text = "which shape is in the {}?" if reworded else "what shape is in the {}?"
    return Question(
        text=text.format(cell),
        answer=scene[cell].kind,
        full_answer=f"the shape in the {cell} is a {scene[cell].kind}",
        types=("query", "cat", "categoryThis"),
        group="shape",
        local_group=f"{cell}-shape_shape",
        choices=SHAPES,
        program=(*_select(scene, cell), ("query", "name", (2,))),
    )


def query_number(scene: Scene, reworded: bool = False) -> Question:
    """Ask for the number of shapes."""
    number = NUMBERS[len(scene)]
    ids = ",".join(f"@{CELLS.index(cell)}" for cell in scene)
    return Question(
        text="how many shapes are in the picture?" if reworded else "how many shapes are there?",
        answer=number,
        full_answer="there is one shape" if len(scene) == 1 else f"there are {number} shapes",
        types=("query", "global", "number"),
        group="number",
        local_group="scene-number",
        choices=NUMBERS[1:],
        program=(("select", f"shape ({ids})", ()), ("query", "number", (0,))),
    )


def query_related(scene: Scene, cell: str, relation: str) -> Question:
    """Ask for the color of the shape beside another one."""
    target = RELATIONS[cell, relation]
    color = scene[target].color
    there = f"the shape {relation} the one in the {cell}"
    argument = f"shape,{relation},s (@{CELLS.index(target)})"
    program = (*_select(scene, cell), ("relate", argument, (2,)), ("query", "color", (3,)))
    return Question(
        text=f"what color is {there}?",
        answer=color,
        full_answer=f"{there} is {color}",
        types=("query", "rel", "relO"),
        group="color",
        local_group=f"{cell}-shape_{relation}",
        choices=tuple(COLORS),
        program=program,
    )


def verify(scene: Scene, cell: str, claim: str) -> Question:
    """Ask whether it is of this colour, or of this shape."""
    is_color = claim in COLORS
    truth = claim == (scene[cell].color if is_color else scene[cell].kind)
    claimed = claim if is_color else f"a {claim}"
    denial = "" if truth else "not "
    operation = "verify color" if is_color else "verify name"
    return Question(
        text=f"is the shape in the {cell} {claimed}?",
        answer=_yes_no(truth),
        full_answer=f"{_yes_no(truth)}, the shape in the {cell} is {denial}{claimed}",
        types=("verify", "attr" if is_color else "cat", "verifyAttr" if is_color else "verifyCat"),
        local_group=f"{cell}-shape_{claim}",
        choices=YES_NO,
        program=(*_select(scene, cell), (operation, claim, (2,))),
    )


def verify_exists(scene: Scene, cell: str, reworded: bool = False) -> Question:
    """Ask whether there is one."""
    truth = cell in scene
    text = "does the picture have a shape in the {}?" if reworded else "is there a shape in the {}?"
    return Question(
        text=text.format(cell),
        answer=_yes_no(truth),
        full_answer=f"{_yes_no(truth)}, there is {'a' if truth else 'no'} shape in the {cell}",
        types=("verify", "obj", "exist"),
        local_group=f"{cell}-shape_exist",
        choices=YES_NO,
        program=(*_select(scene, cell), ("exist", "?", (2,))),
    )


def choose(scene: Scene, cell: str, options: tuple[str, str]) -> Question:
    """Ask whether it is this or that."""
    is_color = options[0] in COLORS
    answer = scene[cell].color if is_color else scene[cell].kind
    assert answer in options, "one of the two must be true"
    article = "" if is_color else "a "
    operation = "choose color" if is_color else "choose name"
    return Question(
        text=f"is the shape in the {cell} {article}{options[0]} or {article}{options[1]}?",
        answer=answer,
        full_answer=f"the shape in the {cell} is {article}{answer}",
        types=("choose", "attr", "chooseAttr") if is_color else ("choose", "cat", "categoryChoose"),
        local_group=f"{cell}-shape_{'|'.join(sorted(options))}",
        choices=options,
        program=(*_select(scene, cell), (operation, "|".join(options), (2,))),
    )


def combine(scene: Scene, cells: tuple[str, str], operation: str) -> Question:
    """Ask whether there is one here and (or) there."""
    first, second = (cell in scene for cell in cells)
    truth = (first and second) if operation == "and" else (first or second)
    where = f"in the {cells[0]} {operation} in the {cells[1]}"
    exists = [_select(scene, cells[0]), _select(scene, cells[1], start=4)]
    return Question(
        text=f"is there a shape {where}?",
        answer=_yes_no(truth),
        full_answer=f"{_yes_no(truth)}, there is {'a' if truth else 'not a'} shape {where}",
        types=("logical", "obj", "existAnd" if operation == "and" else "existOr"),
        local_group=f"{cells[0]}-{cells[1]}-shape_{operation}",
        choices=YES_NO,
        program=(
            *exists[0],
            ("exist", "?", (2,)),
            *exists[1],
            ("exist", "?", (6,)),
            (operation, "", (3, 7)),
        ),
    )


def compare(scene: Scene, cells: tuple[str, str], word: str) -> Question:
    """Have the two the same color, or different ones?"""
    is_same = scene[cells[0]].color == scene[cells[1]].color
    where = f"the shapes in the {cells[0]} and the {cells[1]}"
    asked = "the same color" if word == "same" else "a different color"
    had = "the same color" if is_same else "a different color"
    truth = is_same == (word == "same")
    program = (*_select(scene, cells[0]), *_select(scene, cells[1], start=3))
    return Question(
        text=f"do {where} have {asked}?",
        answer=_yes_no(truth),
        full_answer=f"{_yes_no(truth)}, {where} have {had}",
        types=("compare", "attr", "twoSame" if word == "same" else "twoDifferent"),
        local_group=f"{cells[0]}-{cells[1]}-{word}_color",
        choices=YES_NO,
        program=(*program, (f"{word} color", "", (2, 5))),
    )


def _select(scene: Scene, cell: str, start: int = 0) -> tuple[Operation, ...]:
    """Three operations, numbered from `start`, that lead to the object in a cell."""
    vertical, horizontal = cell.split()
    found = f"@{CELLS.index(cell)}" if cell in scene else "-"
    return (
        ("select", f"shape ({found})", ()),
        ("filter vposition", vertical, (start,)),
        ("filter hposition", horizontal, (start + 1,)),
    )


def _yes_no(truth: bool) -> str:
    return "yes" if truth else "no"
