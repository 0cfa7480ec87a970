"""The files for other systems than this one agree with setup.cfg, the Makefile and the checkout."""

import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers import REPOSITORY

SETUP = ConfigParser()
SETUP.read(REPOSITORY / "setup.cfg", encoding="utf-8")
FORMS = sorted((REPOSITORY / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def _text(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def _read(name: str) -> Any:
    return yaml.safe_load(_text(name))


def _pythons() -> list[str]:
    """The versions of Python that setup.cfg names."""
    return re.findall(r"Python :: (3\.\d+)", SETUP["metadata"]["classifiers"])


def test_the_versions_of_python_are_those_that_are_required() -> None:
    lowest = SETUP["options"]["python_requires"].removeprefix(">=")
    assert _pythons()[0] == lowest
    assert "Python 3.11, 3.12 or 3.13" in _text("docs/install.md")
    assert _pythons() == ["3.11", "3.12", "3.13"]


def test_the_workflow_runs_targets_that_exist_on_each_python() -> None:
    job = _read(".github/workflows/tests.yml")["jobs"]["tests"]
    assert job["strategy"]["matrix"]["python"] == _pythons()
    commands = [step["run"].split() for step in job["steps"] if "run" in step]
    assert {tuple(words[:1]) for words in commands} == {("make",)}
    targets = {word for words in commands for word in words[1:]}
    assert targets == {"lint", "test", "test-slow", "docs"}
    assert targets <= set(re.findall(r"^([\w-]+):", _text("Makefile"), re.M))


def test_the_actions_of_the_workflow_are_pinned_to_a_commit() -> None:
    used = re.findall(r"uses: (\S+)(.*)", _text(".github/workflows/tests.yml"))
    assert len(used) == 3
    for action, comment in used:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_its_format_asks_for(form: Path) -> None:
    # https://docs.github.com/communities/using-templates-to-encourage-useful-issues-and-pull-requests/syntax-for-githubs-form-schema
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.stem == "config":
        assert content == {"blank_issues_enabled": True}
        return
    assert content["name"] and content["description"]
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert all(field["attributes"]["label"] for field in fields)
    names = [field["id"] for field in fields]
    assert len(names) == len(set(names))
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_the_citation_has_the_fields_of_its_format_and_our_version() -> None:
    # https://github.com/citation-file-format/citation-file-format/blob/main/schema-guide.md
    citation = _read("CITATION.cff")
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}
    assert citation["type"] == "software"
    assert citation["version"] == SETUP["metadata"]["version"]
    assert citation["license"] == SETUP["metadata"]["license"]
    assert citation["authors"][0]["name"] in _text("LICENSE")
    assert "date-released" not in citation  # as long as CHANGELOG.md says so
    assert "repository-code" not in citation and "url" not in SETUP["metadata"]  # none is known


def test_the_changelog_begins_with_what_is_not_released() -> None:
    first = re.findall(r"^## (.*)", _text("CHANGELOG.md"), re.M)[0]
    assert first == "[Unreleased]"
    assert f"Version {SETUP['metadata']['version']}, which has not been released" in _text(
        "CHANGELOG.md"
    ).replace("\n", " ")


def test_the_container_and_conda_take_a_python_that_is_tried_and_files_that_exist() -> None:
    container = _text("Dockerfile")
    (python,) = re.findall(r"^FROM python:(3\.\d+)-slim", container, re.M)
    assert python in _pythons()
    assert "--constraint constraints.txt" in container
    (extra,) = re.findall(r'"\.\[(\w+)\]"', container)
    assert extra in SETUP["options.extras_require"]
    (user,) = re.findall(r"^USER (\w+)", container, re.M)
    assert user != "root" and f"useradd --create-home {user}" in container
    assert re.search(r'^ENTRYPOINT \["palitune"\]$', container, re.M)
    packages = _read("environment.yml")["dependencies"]
    assert packages[0].removeprefix("python=") in _pythons()
    assert packages[-1] == {"pip": ["--constraint constraints.txt", "--editable ."]}


def test_the_hooks_before_a_commit_are_the_linters_of_make_lint() -> None:
    (repository,) = _read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    recipe = re.findall(r"^lint:.*\n((?:\t.*\n)+)", _text("Makefile"), re.M)[0]
    linted = {re.sub(r"\$\(BIN\)/| \.$", "", line.strip()) for line in recipe.splitlines()}
    linted = {line.replace("format --check .", "format --check") for line in linted}
    hooks = {hook["entry"] for hook in repository["hooks"]}
    found = {h.removeprefix(".venv/bin/").removesuffix(" --force-exclude") for h in hooks}
    assert found == linted


def test_every_package_that_is_pinned_is_pinned_once() -> None:
    names = [line.partition("==")[0].lower() for line in _text("constraints.txt").splitlines()]
    assert len(names) == len(set(names))
    required = [SETUP["options"]["install_requires"], *SETUP["options.extras_require"].values()]
    wanted = {re.split(r"[<>=]", line)[0].lower() for line in "\n".join(required).split()}
    assert not wanted - {name.replace("_", "-") for name in names}
