"""What of a routes check keeps a router from starting, and what is only said."""

from pathlib import Path

import pytest

from mesh.cli.processes.routes_at_start import warnings_at_start
from mesh.core.state import AgentCard
from mesh.errors import RouteInvalid

GOOD = """\
route: r
on: {type: t}
steps:
  a: {agent: worker, input: 1}
  ask: {needs: a, approval: {ask: Good?, payload: 1, role: nobody, deadline: 1h}}
"""
BAD = GOOD + '  b: {needs: a, agent: worker, input: 1, if: "1 / 0 == 1"}\n'


def routes(folder: Path, text: str) -> list[Path]:
    file = folder / "route.yaml"
    file.write_text(text)
    return [file]


def agents(*names: str) -> dict[str, AgentCard]:
    return {name: AgentCard(name=name, version="1", topic="t") for name in names}


def test_without_files_there_is_nothing_to_check() -> None:
    assert warnings_at_start([]) == []


def test_errors_are_told_with_their_lines_and_the_next_step(tmp_path: Path) -> None:
    paths = routes(tmp_path, BAD)
    with pytest.raises(RouteInvalid) as refused:
        warnings_at_start(paths)
    first, last = str(refused.value).splitlines()
    assert first.startswith(f"{paths[0]}:6: step b: its if always fails")
    assert last == "nothing is started: correct the routes, or use --force"


def test_with_force_they_are_only_said(tmp_path: Path) -> None:
    assert [one.code for one in warnings_at_start(routes(tmp_path, BAD), force=True)] == ["always_fails"]


def test_a_file_that_does_not_compile_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RouteInvalid, match="unknown key"):
        warnings_at_start(routes(tmp_path, GOOD + "  c: {agnt: x}\n"))


def test_an_agent_that_is_not_started_here_is_a_warning(tmp_path: Path) -> None:
    [one] = warnings_at_start(routes(tmp_path, GOOD), agents=agents("other"))
    assert (one.severity, one.code) == ("warning", "unknown_agent")
    assert "another process may run it" in one.message
    assert warnings_at_start(routes(tmp_path, GOOD), agents=agents("worker")) == []
