"""What `mesh status` says of routers and agents: tables of what is seen, and what follows of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from mesh.codec.router_cards import RouterCard
from mesh.codec.state import encode_meta
from mesh.codec.times import rfc3339
from mesh.core.state import AgentCard, PartitionState
from mesh.core.topics import Topics
from mesh.inspection.card_conflicts import conflict_of, conflicts_of
from mesh.inspection.mesh_status.look import Lag
from mesh.inspection.mesh_status.stuck_agents import stuck_agents
from mesh.inspection.mesh_status.stuck_routers import TAKE_OVER_MS, Inputs, stuck_routers
from mesh.inspection.mesh_status.stuck_work import stuck_steps
from mesh.inspection.mesh_status.values import AgentStatus, Backlog, Stuck
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import OpenStep, PartitionRow
from mesh.inspection.read_model.routers import RouterRow

NOW_MS = 1_800_000_000_000
LASTS_MS = 30_000
META = encode_meta(PartitionState())
CALM = Inputs(
    backlogs=(), inbox=Lag({}, 0), results=Lag({}, 0), overdue_times=(0, 0), open_workflows=0, has_routes=True
)
UNREAD = replace(CALM, inbox=Lag({1: 5}, 3, (1,)))
WAITING = replace(CALM, backlogs=(Backlog(topic="mesh.events", lag=4, overdue=4),))


def router(
    name: str, *, heard: int = 0, up: int = 3_600_000, stopped: bool = False, said: int | None = None
) -> RouterRow:
    """`heard`, `up`: milliseconds ago; `said`: by its own clock."""
    card = RouterCard(
        instance=name,
        started_at=rfc3339(NOW_MS - up),
        renewed_at=rfc3339(NOW_MS - (heard if said is None else said)),
        expires_after_s=LASTS_MS / 1_000,
    )
    return RouterRow(card=card, renewed_at_ms=NOW_MS - heard, stopped=stopped)


def owned(*owners: str, decided: int = 1_000) -> dict[int, PartitionRow]:
    return {n: PartitionRow(n, owner, NOW_MS - 60_000, NOW_MS - decided, META) for n, owner in enumerate(owners)}


def said(rows: Sequence[RouterRow], partitions: Mapping[int, PartitionRow], inputs: Inputs = CALM) -> list[Stuck]:
    return stuck_routers(rows, partitions, inputs, NOW_MS)


@pytest.mark.parametrize(
    ("rows", "partitions"),
    [
        ([], {}),
        ([router("a")], {}),  # just started
        ([router("a")], owned("a", "a")),
        ([router("a", heard=LASTS_MS - 1)], owned("a", decided=3_600_000)),
        ([router("a"), router("b", stopped=True)], owned("a", "a")),
        ([router("a"), router("b", heard=99_000)], owned("a", "a")),
        ([router("a"), router("b", heard=LASTS_MS + TAKE_OVER_MS - 1)], owned("a", "b")),  # is being taken over
        ([router("a", up=1_000), router("b", heard=9_000_000)], owned("b", "b")),  # the mesh starts again
        ([router("a", up=1_000), router("b", heard=9_000_000, stopped=True)], owned("b", "b")),
        ([router("a")], owned("older version", "a")),  # a router from before there were cards
        ([router("a", heard=-3_600_000, said=1_000)], owned("a")),  # the broker's clock was put back
    ],
)
def test_nothing_is_said_of_routers_that_live(rows: list[RouterRow], partitions: dict[int, PartitionRow]) -> None:
    assert said(rows, partitions) == []


def test_a_dead_router_shows_although_nothing_is_unread() -> None:
    [one] = said([router("a", heard=LASTS_MS)], owned("a"))
    assert one.severity == "error"
    assert one.what == "no router is alive: a was heard of last 30 s ago, and did not stop in good order"
    assert one.next_step == "mesh router"


def test_a_dead_router_shows_although_the_clock_was_put_back() -> None:
    assert [one.severity for one in said([router("a", heard=-3_600_000, said=LASTS_MS)], owned("a"))] == ["error"]


@pytest.mark.parametrize(
    ("inputs", "severity"),
    [(CALM, "warning"), (replace(CALM, open_workflows=1), "error"), (UNREAD, "error"), (WAITING, "error")],
)
def test_a_mesh_that_was_stopped_is_an_error_only_if_something_is_open(inputs: Inputs, severity: str) -> None:
    [one] = said([router("a", heard=5_000, stopped=True)], owned("a"), inputs)
    assert one.severity == severity
    assert one.what.endswith("no router is alive: a stopped 5 s ago")


def test_partitions_that_nobody_takes_over_name_who_should() -> None:
    [one] = said([router("a"), router("b", heard=LASTS_MS + TAKE_OVER_MS)], owned("a", "b", "b"))
    assert (one.severity, "partitions 1, 2 have no router: b had them" in one.what) == ("error", True)
    assert "look at the log of a" in one.next_step


def test_living_routers_that_are_behind_are_no_dead_ones() -> None:
    [one] = said([router("a")], owned("a", "a", decided=600_000), UNREAD)
    assert (one.severity, one.what) == ("warning", "3 unread in the inbox: partitions 1 of a are behind")
    assert "look at the log of a" in one.next_step
    assert "run more routers" in one.next_step
    [one] = said([router("a"), router("b")], owned("a", "b"), UNREAD)
    assert "run more routers" not in one.next_step  # there are as many as partitions


def test_events_without_any_route_want_a_route_and_no_router() -> None:
    [one] = said([router("a")], owned("a"), replace(WAITING, has_routes=False))
    assert (one.severity, one.next_step) == ("warning", "mesh routes apply FILE")


def test_a_time_that_has_come_is_said_once_its_inputs_are_read_and_it_had_its_time() -> None:
    late = replace(CALM, overdue_times=(2, NOW_MS - TAKE_OVER_MS))
    [one] = said([router("a")], owned("a"), late)
    assert (one.severity, "the time of 2 steps has come, the first 30 s ago" in one.what) == ("warning", True)
    assert one.next_step != "mesh router"
    assert said([router("a")], owned("a"), replace(CALM, overdue_times=(2, NOW_MS - 12_000))) == []
    [behind] = said([router("a")], owned("a"), replace(UNREAD, overdue_times=(2, NOW_MS - TAKE_OVER_MS)))
    assert "unread" in behind.what


def test_a_mesh_without_cards_is_judged_by_what_is_unread() -> None:
    [never] = said([], {}, UNREAD)
    assert (never.severity, "no router has ever run here" in never.what) == ("error", True)
    [dead] = said([], owned("a", decided=600_000), UNREAD)
    assert (dead.severity, "no router is alive" in dead.what) == ("error", True)
    [slow] = said([], owned("a"), UNREAD)
    assert slow.severity == "warning"
    [late] = said([], owned("a"), replace(CALM, overdue_times=(1, NOW_MS - 12_000)))
    assert late.next_step == "mesh router"


# Agents -------------------------------------------------------------------------------------------


def an_agent(**more: Any) -> AgentStatus:
    facts: dict[str, Any] = {
        "name": "x",
        "alive": 1,
        "versions": ("1",),
        "lag": 1,
        "overdue": 1,
        "running": 1,
        "oldest_running_ms": NOW_MS - 3_600_000,
        "places": 1,
        "heard_at_ms": NOW_MS - 1_000,
        "has_consumed": True,
    }
    return AgentStatus(**{**facts, **more})


def of_agent(one: AgentStatus, up_since_ms: int = 0) -> list[Stuck]:
    return stuck_agents([one], Topics(), NOW_MS, up_since_ms)


@pytest.mark.parametrize(
    "agent",
    [
        an_agent(),  # one long task, whose record is committed with its result
        an_agent(running=4, overdue=9, places=4),  # beside it, some that were cancelled
        an_agent(running=0, overdue=5, alive=0, places=0),  # all of them were cancelled
        an_agent(running=2, overdue=0, alive=0, places=0, oldest_running_ms=NOW_MS - 9_000),
        an_agent(alive=0, places=0, heard_at_ms=None),  # an agent in another language, without cards
    ],
)
def test_a_task_under_way_is_none_that_waits(agent: AgentStatus) -> None:
    assert of_agent(agent) == []


def test_agents_are_given_time_to_start_with_the_mesh() -> None:
    assert of_agent(an_agent(alive=0, places=0), NOW_MS - 9_000) == []
    [one] = of_agent(an_agent(alive=0, places=0, heard_at_ms=NOW_MS - 60_000), NOW_MS - 10_000)
    assert (one.severity, one.next_step) == ("error", "start the agent x: mesh agent MODULE")
    assert "nobody alive consumes mesh.tasks.x (x was last heard of 60 s ago)" in one.what.replace("1 min", "60 s")


def test_more_tasks_than_places_wait_their_turn() -> None:
    [one] = of_agent(an_agent(running=5, overdue=4, places=2))
    assert (one.severity, one.what) == ("warning", "3 tasks wait in mesh.tasks.x, and its 2 places are taken")


def test_an_agent_that_takes_nothing_up_is_named() -> None:
    [one] = of_agent(an_agent(untaken=1))
    assert (one.severity, "x is alive and has room, and does not begin them" in one.what) == ("error", True)
    assert "look at the log of x" in one.next_step


def test_a_topic_that_is_missing_is_named() -> None:
    [one] = of_agent(an_agent(lag=None, overdue=0))
    assert "there is no topic mesh.tasks.x" in one.what
    assert "retry" not in one.next_step


# Cards that disagree ------------------------------------------------------------------------------


def card(instance: str, output: dict[str, Any] | None = None, **more: Any) -> AgentCard:
    return AgentCard(name="x", version="1", topic="t", instance=instance, output_schema=output, **more)


def test_cards_that_say_the_same_in_another_order_agree() -> None:
    one, two = {"type": "object", "title": "T"}, {"title": "T", "type": "object"}
    assert conflict_of("x", [card("a", one), card("b", two)]) is None


def test_cards_that_disagree_are_told_with_what_and_who() -> None:
    conflict = conflict_of("x", [card("a", {"type": "null"}), card("b"), card("c"), card("", {}, registration=True)])
    assert str(conflict) == "replicas of x have different output schemas: b (1), c (1) against a (1)"
    both = conflict_of("x", [card("a", {"type": "null"}), card("b", input_schema={"type": "null"})])
    assert both is not None
    assert both.fields == ("input schemas", "output schemas")
    assert list(conflicts_of([card("a", {"type": "null"}), card("b"), replace(card("c"), name="y")])) == ["x"]


def test_status_says_that_cards_disagree() -> None:
    conflict = conflict_of("x", [card("a", {"type": "null"}), card("b")])
    [one] = of_agent(an_agent(conflict=conflict))
    assert (one.severity, "different output schemas" in one.what) == ("warning", True)


# What helps an incident ---------------------------------------------------------------------------


def incident(kind: str, message: str = "why") -> str:
    one = OpenStep("r:k", "s", "incident", "x", "", 1, "", NOW_MS, None, kind, message, "", 1, 0, 0)
    [stuck] = stuck_steps(Page([one], total=1))
    return stuck.next_step


@pytest.mark.parametrize("kind", ["exhausted", "timeout", "expired", "parked", "alias", "limit", "loop"])
def test_retry_is_advised_where_it_can_help(kind: str) -> None:
    assert incident(kind) == "mesh workflows retry 'r:k'"


@pytest.mark.parametrize(
    ("kind", "message", "first"),
    [
        ("expression", "no such key", "correct the route"),
        ("too_deep", "too deep", "correct the route"),
        ("unknown_route", "no route", "make the called route active"),
        ("no_agent", "nobody", "start an agent"),
        ("undeliverable", "no topic", "mesh topics apply"),
        ("non_retryable", "input_invalid: no", "mesh workflows retry 'r:k' --step s --input"),
        ("non_retryable", "output_invalid: no", "repair the agent x"),
        ("non_retryable", "result_invalid: no", "repair the agent x"),
        ("exhausted", "agent_died: three", "repair the agent x"),
        ("non_retryable", "NoTitle: no", "remove the cause"),
    ],
)
def test_what_has_to_be_corrected_first_is_said_first(kind: str, message: str, first: str) -> None:
    assert incident(kind, message).startswith(first)
