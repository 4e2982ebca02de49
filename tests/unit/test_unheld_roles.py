"""A router tells which roles nobody has, and what a change of the approvers' file takes away."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mesh.codec.approvers_file import load_approvers
from mesh.core.route import Route
from mesh.routes.compiler import compile_route
from mesh.services.router.approvers import ApproversWatch


def asking(route: str, *roles: str) -> Route:
    steps: dict[str, Any] = {
        f"s{n}": {"approval": {"ask": "Good?", "payload": 1, "role": role}} for n, role in enumerate(roles)
    }
    return compile_route({"route": route, "on": {"type": "t"}, "steps": {**steps, "work": {"agent": "a", "input": 1}}})


class Watched:
    """A watch over a file, and the logs and roles that come of it."""

    def __init__(self, folder: Path, text: str, routes: Sequence[Route] = ()) -> None:
        self.file = folder / "approvers.yaml"
        self.file.write_text(text)
        self.routes = list(routes)
        self.roles: Mapping[str, frozenset[str]] | None = None
        self._watch = ApproversWatch(
            self.file, load_approvers(self.file), routes=lambda: self.routes, set_roles=self._take
        )

    def _take(self, roles: Mapping[str, frozenset[str]]) -> None:
        self.roles = roles

    def look(self) -> list[Any]:
        with capture_logs() as logs:
            self._watch.look()
        return [log for log in logs if log["log_level"] != "info"]


def test_each_approval_whose_role_nobody_has_is_warned_of_once(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "lead: ana\nother: ana\n", [asking("r", "lead", "boss")])
    said = [(log["event"], log["log_level"], log["role"], log["route"], log["step"]) for log in watched.look()]
    assert said == [("nobody_has_the_role", "warning", "boss", "r", "s1")]
    assert watched.look() == []


def test_nothing_is_said_where_all_roles_are_held(tmp_path: Path) -> None:
    assert Watched(tmp_path, "lead: ana\nboss: bo\n", [asking("r", "lead", "boss")]).look() == []


def test_a_route_that_becomes_active_later_is_warned_of_too(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "lead: ana\n")
    assert watched.look() == []
    watched.routes.append(asking("late", "boss"))
    assert [log["route"] for log in watched.look()] == ["late"]


def test_a_file_that_disappears_tells_what_it_took_away(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "lead: [ana, bo]\nboss: ana\n", [asking("r", "lead")])
    assert watched.look() == []
    watched.file.unlink()
    gone, unheld = watched.look()
    assert (gone["event"], gone["taken"]) == ("approvers_file_is_gone", {"ana": ["boss", "lead"], "bo": ["lead"]})
    assert gone["roles_that_nobody_has"] == ["boss", "lead"]
    assert (unheld["event"], unheld["role"]) == ("nobody_has_the_role", "lead")
    assert watched.roles == {}


def test_a_role_that_is_lost_is_told(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "lead: [ana, bo]\nboss: ana\n")
    watched.file.write_text("lead: bo\nnew: cy\n")
    [lost] = watched.look()
    assert (lost["event"], lost["log_level"]) == ("roles_taken_away", "warning")
    assert (lost["taken"], lost["roles_that_nobody_has"]) == ({"ana": ["boss", "lead"]}, ["boss"])


@pytest.mark.parametrize("text", ["lead: [ana, bo]\nboss: ana\n", "lead: ana\nboss: [ana, bo]\nmore: bo\n"])
def test_a_change_that_takes_nothing_is_no_warning(tmp_path: Path, text: str) -> None:
    watched = Watched(tmp_path, "lead: ana\nboss: ana\n")
    watched.file.write_text(text)
    assert watched.look() == []
    assert watched.roles == load_approvers(watched.file)


def test_an_invalid_file_changes_nothing(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "lead: ana\n")
    watched.file.write_text("lead: {ana: 1}\n")
    assert [log["event"] for log in watched.look()] == ["approvers_unreadable"]
    assert watched.roles is None
