"""What docs/deploy.md types and says is so: commands, figures, files and values."""

import re
from pathlib import Path

import pytest
from chart import load_all, render
from test_alerts import assert_known

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text()
CODE = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL))
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
TYPED = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
COMMANDS = [one.split(" | ")[0] for one in [*TYPED, *CODE] if one.startswith("mesh ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_is_one_of_the_mesh(command: str) -> None:
    assert_known(command)


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) > 10


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"\b(?:infra|tests|topics)/[\w./-]+\w/?", PAGE))
    assert len(named) > 3
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_targets_of_make_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([\w-]+)", PAGE):
        assert f"\n{target}:" in makefile


def test_the_values_that_the_page_shows_are_taken() -> None:
    [text] = [text for language, text in BLOCKS if language == "yaml"]
    [values] = load_all(text)
    assert render(values)


def test_figures_are_those_of_the_page_about_speed() -> None:
    speed = (ROOT / "docs" / "performance.md").read_text()
    for figure in ("2336", "353.1", "89.8", "6.87", "816.8", "255.5"):
        assert figure in speed, "docs/deploy.md rounds it: correct both pages"
