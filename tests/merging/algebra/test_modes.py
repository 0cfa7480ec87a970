"""Each merge mode is one row, and each row has one rule."""

import pytest

from merging.algebra.methods import COEFFICIENTS, CORE, DENSE
from merging.algebra.modes import _ROWS, MODES

RULES = {"coefficients": COEFFICIENTS, "core": CORE, "dense": DENSE}


def test_each_mode_is_exactly_one_row() -> None:
    assert [mode.name for mode in _ROWS] == list(MODES)
    assert len(_ROWS) == len(MODES)


@pytest.mark.parametrize("kind", RULES)
def test_every_row_has_a_rule_of_its_kind_and_every_rule_a_row(kind: str) -> None:
    rows = [mode.name for mode in MODES.values() if mode.kind == kind]
    assert sorted(rows) == sorted(RULES[kind])


def test_a_mode_that_trims_has_a_density() -> None:
    assert all(mode.density is not None for mode in MODES.values() if mode.trims)
