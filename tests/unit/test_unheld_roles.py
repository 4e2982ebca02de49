"""A router tells which roles nobody has, and what a change of the approvers' file takes away."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mesh.codec.approvers_file import load_approvers
from mesh.core.people import People, Person, people_of
from mesh.core.route import Route
from mesh.routes.compiler import compile_route
from mesh.services.router.approvers import ApproversWatch, Rule, rule_at_start

TOPIC = "mesh.approvals.people"


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
        self.people: People | None = None
        self._watch = ApproversWatch(
            self.file,
            rule_at_start(self.file, TOPIC, None),
            topic=TOPIC,
            routes=lambda: self.routes,
            people=lambda: self.people,
            tell=self._take,
        )

    def _take(self, rule: Rule) -> None:
        self.rule = rule
        self.roles = rule.roles

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


# Once the people's topic rules --------------------------------------------------------------------

ANA = people_of([Person(id="ana", names=("slack:U1",), roles=frozenset({"lead"}))], digest="sha256:1")


def test_once_the_topic_rules_the_file_is_not_read_and_that_is_said_once(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "lead: ben\n", [asking("r", "lead")])
    watched.people = ANA
    assert [(log["event"], log["rules"]) for log in watched.look()] == [("approvers_file_not_read", TOPIC)]
    assert (watched.rule.roles, watched.rule.source, watched.rule.version) == (ANA.roles, TOPIC, "sha256:1")
    assert watched.look() == []


def test_a_change_of_the_file_that_is_not_read_is_said(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "lead: ben\n")
    watched.people = ANA
    watched.look()
    watched.file.write_text("lead: [no, body\n")
    assert [log["event"] for log in watched.look()] == ["approvers_file_not_read"]
    assert watched.look() == []
    assert watched.rule.roles == ANA.roles
    watched.file.unlink()
    assert watched.look() == []


def test_a_new_version_of_the_people_is_told(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "", [asking("r", "lead")])
    watched.people = ANA
    watched.look()
    watched.people = people_of([Person(id="ana")], digest="sha256:2")
    assert [(log["event"], TOPIC in log["next"]) for log in watched.look()] == [("nobody_has_the_role", True)]
    assert (watched.rule.version, watched.rule.roles) == ("sha256:2", {"ana": frozenset()})


def test_a_router_that_starts_under_the_topic_does_not_read_the_file(tmp_path: Path) -> None:
    file = tmp_path / "approvers.yaml"
    file.write_text("lead: [no, body\n")
    with capture_logs() as logs:
        rule = rule_at_start(file, TOPIC, ANA)
    assert (rule.roles, rule.people, rule.source) == (ANA.roles, ANA, TOPIC)
    # another test may have left the level above that of the news that a version is in effect
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["approvers_file_not_read"]


def test_further_names_in_the_file_are_taken_where_it_rules(tmp_path: Path) -> None:
    rule = Watched(tmp_path, "people: {ana: {names: ['slack:U1'], roles: lead}}\n")._watch._rule
    assert rule.roles == {"ana": frozenset({"lead"})}
    assert rule.people is not None
    assert rule.people.named("SLACK:u1") == Person(id="ana", names=("slack:U1",), roles=frozenset({"lead"}))
