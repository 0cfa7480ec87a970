# Each target makes the environment first and does nothing again where it is up to date.
PYTHON ?= python3
BIN := .venv/bin
export TOKENIZERS_PARALLELISM := false
# Two processes of one thread each: the models of the tests are too small for threads to pay.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadscope
test test-slow: export OMP_NUM_THREADS := 1
test test-slow: export MKL_NUM_THREADS := 1

.PHONY: setup demo test test-slow lint docs notebooks wheel public-surface audit
.DEFAULT_GOAL := setup

setup: .venv/up-to-date

.venv/up-to-date: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	# --no-compile: what is imported is compiled then; all of torch at once takes a minute
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
		--constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/palitune demo

test: setup lint
	$(PYTEST) -m "not slow"

test-slow: setup
	$(PYTEST) -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site, in build/site; a broken link is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The notebooks, run anew and stored with what they print; some ten minutes.
notebooks: setup
	$(BIN)/python -m tests.docs.notebooks

# The wheel, in build/dist, which can be installed without the checkout.
wheel: setup
	rm -rf build/lib  # files that are gone would be in the wheel
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--wheel-dir build/dist .

# The snapshots of what users type and read; the diff shows what a change does to it.
public-surface: setup
	PALITUNE_UPDATE_SURFACE=1 $(BIN)/python -m pytest tests/test_public_surface.py

# What bandit may pass over: asserts are of our own invariants (B101), draws are no secrets (B311),
# pickles are named to be refused (B403), and processes get lists of words, no shell (B404, B603,
# B607).
SOURCE := common evaluation experiments finetuning merging models palitune serving synthetic tasks
audit: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[audit]'
	$(BIN)/bandit --quiet --recursive --skip B101,B311,B403,B404,B603,B607 $(SOURCE) eval.py merge_vlm.py
	$(BIN)/python .ci/licences.py
	$(BIN)/python .ci/vulnerabilities.py
