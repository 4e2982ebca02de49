"""Every command that the README and the tutorial print does what they say.

Each is typed in a fresh folder with the real `mesh`.

`pytest tests/acceptance/test_documents.py --regen` writes what was printed into the pages. Review
it as a diff.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from documents import Shown, Typed, fits, reader, same_for_all, steps, with_output
from mesh_processes import ROOT

pytestmark = pytest.mark.slow

BY_OTHER_TESTS = {
    "make demo": "tests/acceptance/test_demo.py",
    "make test": "tests",
}
"""What a page prints and other tests run: the command, and where."""


@pytest.mark.parametrize("name", ["README.md", "docs/tutorial.md"])
def test_a_reader_sees_what_the_page_prints(name: str, tmp_path: Path, *, regen: bool) -> None:
    page = ROOT / name
    with reader(tmp_path / "fresh", tmp_path / "logs", Path(sys.executable).parent, compares=not regen) as one:
        for step in steps(page.read_text()):
            one.do(step, typed_elsewhere=isinstance(step, Typed) and step.command in BY_OTHER_TESTS)
        one.leave()
    if regen:
        page.write_text(with_output(page.read_text(), one.outputs))


def test_the_three_designs_measure_as_the_page_says() -> None:
    ran = subprocess.run([sys.executable, "bench/three_designs.py"], cwd=ROOT, capture_output=True, check=True)
    page = (ROOT / "docs" / "why.md").read_text()
    assert [line for line in ran.stdout.decode().splitlines() if line not in page] == []


def test_what_is_typed_elsewhere_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command, place in BY_OTHER_TESTS.items():
        assert f"\n{command.removeprefix('make ')}: " in makefile
        assert (ROOT / place).exists()


def test_every_command_that_a_figure_names_is_there() -> None:
    """In the tables of README: `pytest FILE`, `python FILE`, `make TARGET`."""
    named = re.findall(r"`(pytest|python|make) ([\w/.]+)[^`]*` \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(named) > 5
    makefile = (ROOT / "Makefile").read_text()
    for tool, what in named:
        assert f"\n{what}: " in makefile if tool == "make" else (ROOT / what).exists(), what


@pytest.mark.parametrize(
    ("printed", "came"),
    [
        ("published 956349572eaeccef8703aeafe13f56e9", "published aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("ID   ASKED       DEADLINE", "ID  ASKED  DEADLINE   "),
        ("a:7/4049dfca/check   6.5 s ago   in 23 h 59 min", "a:7/00000000/check   now   in 24 h"),
        ("13:07:46.745   x   succeeded after 0 ms", "2026-01-01 23:59:59.999 x succeeded after 14 min"),
        ("13:07:46.745   x   done", "               x   done"),
        ("(version src-f44904df0ed1 on vm-9845)", "(version src-000000000000 on a.host-of-mine-1)"),
    ],
)
def test_what_differs_from_run_to_run_is_alike(printed: str, came: str) -> None:
    assert same_for_all(printed) == same_for_all(came)


@pytest.mark.parametrize(
    ("printed", "came"),
    [
        ("1 file, 1 route: 0 errors", "1 file, 1 route: 1 errors"),
        ("welcome:7  completed", "welcome:8  completed"),
        ("attempt 2 of 4", "attempt 3 of 4"),
        ("3 passed in 1 s", "2 passed, 1 failed in 1 s"),
    ],
)
def test_what_matters_is_not(printed: str, came: str) -> None:
    assert same_for_all(printed) != same_for_all(came)


def test_three_dots_stand_for_any_lines() -> None:
    assert fits(["a", "...", "z"], ["a", "b", "c", "z"])
    assert fits(["a", "..."], ["a"])
    assert not fits(["a", "...", "z"], ["a", "b"])
    assert not fits(["a"], ["a", "b"])
    assert fits(["a"], ["a", "b"], to_the_end=False)


def test_a_page_is_read_from_top_to_bottom() -> None:
    page = "# x\n```python\n# a/b.py\nx = 1\n```\n```yaml\nno: file\n```\n```console\n$ mesh a\nout\n\nmore\n$ mesh b\n^C\nbye\n```\n"
    found = list(steps(page))
    assert found == [
        Shown("a/b.py", "# a/b.py\nx = 1\n"),
        Typed("mesh a", ("out", "", "more")),
        Typed("mesh b", ()),
        Typed("^C", ("bye",)),
    ]
    outputs = [["other"], ["new"], ["bye"]]
    assert "```console\n$ mesh a\nother\n$ mesh b\nnew\n^C\nbye\n```" in with_output(page, outputs)
