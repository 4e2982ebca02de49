"""What operators and upstream see of every rule of the language.

Timelines, what is awaited, kept events, commands, and why something is stuck.
"""

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from one_partition import agent, approval, called_route, calling, route
from told_mesh import ToldPartition, answer_command, commit_ingress, with_broker, write

from mesh.cli.app import mesh
from mesh.cli.workflows import commands
from mesh.core.inputs import TimerDue

EACH = {"items": "${{ event.data }}", "concurrency": 3, "tolerate": "all"}
ONCE = {"attempts": 1}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "MESH_BROKER": f"sqlite://{tmp_path}/mesh.db",
        "MESH_DATA_DIR": str(tmp_path / "data"),
        "MESH_BY": "ana@example.org",
        "COLUMNS": "400",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "SETTLE_S", 0.2)  # nobody does the tasks that a command leads to
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(mesh, list(arguments))


def text(*arguments: str) -> str:
    """What a person reads, with runs of spaces as one."""
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return re.sub(" +", " ", result.stdout)


def call_json(*arguments: str, code: int = 0) -> Any:
    result = call(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


# Budgets ------------------------------------------------------------------------------------------


def test_a_step_that_is_held_names_the_calls_that_keep_what_it_needs_until_they_have_ended(folder: Path) -> None:
    """The called workflow undoes what it did, however long that takes."""
    steps = {
        "slow": calling(reserve={"tokens": 80}),
        "quick": agent("y"),
        "next": agent("z", needs={"first_of": ["slow", "quick"]}, reserve={"tokens": 80}),
    }
    undone = {"x": agent("x", undo={"agent": "x", "input": 1}), "y": agent("y", needs="x")}
    p = ToldPartition(route(steps, budget={"tokens": 140}), called_route(undone))
    p.start()
    p.deliver()
    called = f"sub:{p.task_id('slow')}"
    p.succeed("x", key=called)
    p.succeed("quick")
    p.deliver()
    write(folder, p)
    shown = text("workflow", "r:k").replace("\n", " ")
    kept = f"80 tokens are set aside until the call that is not wanted any more has ended: {called}"
    assert f"next held before attempt 1 needs 80 tokens, and 53 of 140 are left; {kept}" in shown
    assert f"next: held by the workflow's budget for 1 min; {kept} (`mesh workflows show ID` shows how far" in shown
    assert "cancelled once undone: x" in text("workflow", called)


# For-each -----------------------------------------------------------------------------------------


def iterating() -> ToldPartition:
    """Five items, each in another state.

    One is done, one has failed with no retry left, one has an incident, one is under way, and one
    is to come.
    """
    steps = {
        "check": agent("checker", "${{ item }}", for_each={**EACH, "tolerate": 1}, retry=ONCE),
        "report": agent("reporter", "${{ steps.check }}", needs="check"),
    }
    p = ToldPartition(route(steps))
    p.start(data=["a", "b", "c", "d", "e"])
    p.succeed("check[0]", "fine")
    p.fail("check[1]", kind="Torn")
    p.fail("check[2]", kind="Burnt")
    return p


def test_a_for_each_is_one_line_with_counts_and_the_names_of_what_went_wrong(folder: Path) -> None:
    write(folder, iterating())
    shown = text("workflow", "r:k")
    assert (
        "check for each of 5 items: 1 succeeded, 1 failed (check[1]), 1 with an incident (check[2]), 2 under way"
        in shown
    )
    assert "check[1] failed for good Torn: it broke (attempt 1 of 1)" in shown
    assert "check[2] incident: exhausted Burnt: it broke" in shown
    assert "check[0]" not in shown
    assert "check: iterating: 2 of 5 items are done, 1 of them failed; 2 running, 1 incident" in shown.replace(
        "\n", " "
    )
    assert re.search(r"check\[2\]: incident for 1 min: exhausted: Burnt", shown)


def test_an_ended_for_each_says_what_became_of_all_items(folder: Path) -> None:
    p = iterating()
    p.command("skip", step="check[2]")
    p.succeed("check[3]")
    p.fail("check[4]")
    p.command("fail", reason="enough")
    write(folder, p)
    shown = text("workflow", "r:k")
    assert (
        "check for each of 5 items: 2 succeeded, 2 failed (check[1], check[2]), 1 with an incident (check[4])" in shown
    )
    assert "failed check[4] was failed by op: enough" in shown
    done = iterating()
    done.command("skip")
    done.succeed("check[3]")
    done.succeed("check[4]")
    (folder / "mesh.db").unlink()
    write(folder, done)
    assert "check succeeded, 2 of its items failed" in text("workflow", "r:k")


def test_of_many_items_that_failed_the_first_are_named_and_the_rest_counted(folder: Path) -> None:
    p = ToldPartition(
        route({"check": agent("checker", "${{ item }}", for_each={**EACH, "concurrency": 20}, retry=ONCE)})
    )
    p.start(data=list(range(20)))
    for index in range(13):
        p.fail(f"check[{index}]")
    p.command("cancel")
    write(folder, p)
    shown = text("workflow", "r:k")
    assert "13 failed (check[0], check[1], " in shown
    assert "check[9] and 3 more), 7 cancelled" in shown
    assert "check[9] failed for good" in shown
    assert "check[10]" not in shown


def test_a_step_can_be_looked_at_item_by_item(folder: Path) -> None:
    write(folder, iterating())
    shown = text("workflow", "r:k", "--step", "check")
    assert "check[0] dispatched to checker item 1 of 5" in shown
    assert "check[0] succeeded after 12 ms" in shown
    one = text("workflow", "r:k", "--step", "check[2]").partition("check: iterating")[0]
    assert "check[2] attempt 1 failed Burnt: it broke" in one
    assert "check[1]" not in one
    events = [
        event for entry in call_json("workflow", "r:k", "--step", "check[2]")["timeline"] for event in entry["events"]
    ]
    assert [event["event"] for event in events] == ["TaskDispatched.1", "TaskFailed.1", "IncidentRaised.1"]
    assert call("workflow", "r:k", "--step", "report").exit_code == 3


def test_the_list_of_a_for_each_is_a_payload(folder: Path) -> None:
    write(folder, iterating())
    assert "items" not in call_json("workflow", "r:k")["timeline"][0]["events"][1]
    assert call_json("workflow", "r:k", "--payloads")["timeline"][0]["events"][1]["items"] == ["a", "b", "c", "d", "e"]
    assert "- e" in call("workflow", "r:k", "--payloads").stdout


def test_incidents_of_many_items_are_named_up_to_ten(folder: Path) -> None:
    p = ToldPartition(
        route(
            {"check": agent("checker", "${{ item }}", for_each={**EACH, "concurrency": 20, "tolerate": 0}, retry=ONCE)}
        )
    )
    p.start(data=list(range(12)))
    for index in range(12):
        p.fail(f"check[{index}]")
    write(folder, p)
    shown = text("workflow", "r:k")
    assert "check[9]: incident for" in shown
    assert "and 2 more items with an incident" in shown
    assert call_json("workflows")["workflows"][0]["incidents"] == 12


def test_an_empty_for_each_counts_nothing(folder: Path) -> None:
    p = ToldPartition(route({"check": agent("checker", "${{ item }}", for_each=EACH)}))
    p.start(data=[])
    write(folder, p)
    assert "check for each of 0 items the workflow started" in text("workflow", "r:k")


# The other rules ----------------------------------------------------------------------------------


def test_rounds_of_a_loop_are_told(folder: Path) -> None:
    steps = {
        "draft": agent("writer", "${{ round }}"),
        "review": approval(
            needs="draft", repeat={"from": "draft", "until": "steps.review.verdict == 'approved'", "limit": 2}
        ),
    }
    p = ToldPartition(route(steps))
    p.start()
    p.succeed("draft")
    p.answer(decision="reject", reason="longer")
    write(folder, p)
    shown = text("workflow", "r:k")
    assert "review round 2 of draft, review steps.review.verdict == 'approved' is false" in shown
    assert "draft dispatched to writer, round 2 round 2" in shown
    assert "review: again" not in shown
    p = ToldPartition(route(steps))
    p.start()
    p.succeed("draft")
    p.answer(decision="reject")
    p.succeed("draft")
    (folder / "mesh.db").unlink()
    write(folder, p)
    assert "asks role maintainer, round 2: Good?" in text("workflow", "r:k")


def waiting(*, keep: str = "1h") -> ToldPartition:
    steps = {
        "order": agent("shop"),
        "paid": {"needs": "order", "wait": {"event": "shop.paid", "timeout": "2d"}},
        "rest": {"wait": "3d"},
        "late": {"wait": {"until": "2001-01-01T00:00:00Z"}},
        "veto": {"wait": {"event": "shop.veto"}},
        "ship": agent("shipper", needs={"first_of": ["paid", "rest", "veto"]}),
    }
    p = ToldPartition(route(steps, keep_events=keep))
    p.start()
    return p


def test_waits_say_for_what_and_until_when(folder: Path) -> None:
    p = waiting()
    p.succeed("order")
    write(folder, p)
    shown = text("workflow", "r:k")
    assert re.search(r"paid waits for event shop\.paid until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} order done", shown)
    assert re.search(r"rest waits until \d{4}-\d\d-\d\d ", shown)
    assert "late the time has come already the workflow started" in shown
    assert "veto waits for event shop.veto, without a time-out" in shown
    assert "paid: waiting for event shop.paid for 1 min; given up in 1 d 23 h" in shown
    assert "veto: waiting for event shop.veto for 1 min, without a time-out" in shown
    assert re.search(r"rest: waiting until \d{4}-\d\d-\d\d \S+ \(in 2 d 23 h\)", shown)


def test_events_that_are_kept_taken_and_unclaimed_are_told(folder: Path) -> None:
    p = waiting()
    p.offer("shop.paid", event_id="o1")
    p.offer("shop.paid", event_id="o2")
    write(folder, p)
    shown = text("workflow", "r:k")
    assert "kept event o1 (shop.paid) no step waits for it yet" in shown
    assert "event o2 (shop.paid): kept for 1 min, until a step waits for it" in shown
    kept = call_json("workflow", "r:k")["timeline"][-1]["events"][0]["kept"]
    assert (kept["cloud_event"]["id"], kept["offset"], "data" in kept["cloud_event"]) == ("o2", 2, False)
    p = waiting()
    p.offer("shop.paid", event_id="o1")
    p.offer("shop.paid", event_id="o2")
    p.succeed("order")
    p.succeed("ship")
    (folder / "mesh.db").unlink()
    write(folder, p)
    shown = text("workflow", "r:k")
    assert "paid received event o1 (shop.paid), kept from before" in shown
    assert "rest cancelled ship goes on with paid" in shown
    assert (
        "unclaimed: event o2 (shop.paid) no step took it before the workflow completed; it is a dead letter now"
        in shown
    )


def test_a_workflow_that_only_events_have_come_for_is_expected_and_not_running(folder: Path) -> None:
    p = waiting()
    p.offer("shop.paid", "soon", event_id="o1")
    write(folder, p)
    assert re.search("^r:soon expected 1 min ago", text("workflows"), re.MULTILINE)
    assert [row["workflow_id"] for row in call_json("workflows", "--status", "expected")["workflows"]] == ["r:soon"]
    assert call_json("status")["workflows"] == {"expected": 1, "running": 1}
    assert "workflows 1 running, 1 expected" in text("status")
    shown = text("workflow", "r:soon")
    assert re.search(
        r"^r:soon expected\nno run yet: an event came 1 min ago, and is kept for one until \S+ ?\S*; rules \w+$",
        shown,
        re.MULTILINE,
    )
    assert "event o1 (shop.paid): kept for" in shown


def test_what_was_expected_and_never_came_is_no_workflow_any_more(folder: Path) -> None:
    p = waiting(keep="30s")
    p.offer("shop.paid", "nobody", event_id="o2")
    p.wait(key="nobody")
    write(folder, p)
    assert [row["workflow_id"] for row in call_json("workflows")["workflows"]] == ["r:k"]
    assert call_json("status")["workflows"] == {"running": 1}
    gone = text("workflow", "r:nobody")
    assert "unclaimed: event o2 (shop.paid) no workflow of this id started in time" in gone
    assert "event o2 (shop.paid): kept" not in gone


def test_hand_overs_values_events_and_ends_are_told(folder: Path) -> None:
    steps = {
        "price": {"value": {"total": 6}},
        "tell": {"needs": "price", "emit": {"type": "shop.priced", "data": "${{ steps.price }}"}},
        "ask": agent("triage", handover={"to": ["billing"]}, needs="tell"),
        "stop": {"needs": "ask", "end": {"status": "completed", "reason": "cheap"}},
    }
    p = ToldPartition(route(steps))
    p.start()
    p.hand_over("ask", "billing")
    p.succeed("ask")
    write(folder, p)
    shown = text("workflow", "r:k")
    for part in (
        "price computed the workflow started",
        "tell emitted event r:k/",
        "/tell (shop.priced) price done",
        "ask handed over to billing",
        "ask dispatched to billing handed over by triage",
        "stop reached: the workflow ends here ask done",
    ):
        assert part in shown
    assert "total: 6" in call("workflow", "r:k", "--payloads").stdout


def undoing() -> ToldPartition:
    steps = {
        "flight": agent("airline", undo=agent("airline-cancel", "${{ steps.flight }}")),
        "hotel": agent("hotel", needs="flight", undo=agent("hotel-cancel", retry=ONCE)),
        "car": agent("cars", needs="hotel", retry=ONCE, on_exhausted="fail"),
    }
    p = ToldPartition(route(steps))
    p.start()
    p.succeed("flight")
    p.succeed("hotel")
    p.fail("car", kind="NoCars")
    return p


def test_compensation_is_told_while_it_is_under_way(folder: Path) -> None:
    write(folder, undoing())
    shown = text("workflow", "r:k")
    assert "failed; undoes hotel, flight first car: NoCars: it broke" in shown
    assert "hotel.undo dispatched to hotel-cancel undo hotel" in shown
    assert "failed once undone: hotel, flight; car: NoCars: it broke" in shown
    assert "hotel.undo: running (hotel-cancel, attempt 1)" in shown


# Commands -----------------------------------------------------------------------------------------


def ordered(folder: Path, p: ToldPartition, *arguments: str, code: int = 0) -> Any:
    """A command, with a router that decides it."""
    write(folder, p)
    thread = threading.Thread(target=with_broker, args=(folder, lambda broker: answer_command(broker, p)))
    thread.start()
    found = call_json("workflow", *arguments, "--timeout", "60", code=code)
    thread.join(60)
    return found


def test_one_items_incident_can_be_skipped(folder: Path) -> None:
    p = iterating()
    for item in ("check[3]", "check[4]"):
        p.succeed(item)
    found = ordered(folder, p, "skip", "r:k", "--step", "check[2]", "--reason", "torn anyway")
    assert (found["command"], found["accepted"], found["message"]) == ("skip", True, "torn anyway")
    assert p.step("check").output == ["fine", None, None, "done", "done"]


def test_a_compensations_incident_can_be_skipped(folder: Path) -> None:
    p = undoing()
    p.fail("hotel.undo")
    found = ordered(folder, p, "skip", "r:k", "--step", "hotel.undo")
    assert found["workflow_status"] == "running"
    assert p.step("flight.undo").status == "running"


def test_a_workflow_with_an_incident_can_be_failed(folder: Path) -> None:
    found = ordered(folder, iterating(), "fail", "r:k", "--reason", "no use")
    assert (found["accepted"], found["workflow_status"]) == (True, "failed")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["skip", "r:k", "--step", "check[7]"], "no_incident"), (["fail", "r:k", "--step", "nothing"], "unknown_step")],
)
def test_a_step_without_an_incident_is_not_skipped_or_failed(folder: Path, arguments: list[str], code: str) -> None:
    found = ordered(folder, iterating(), *arguments, code=1)
    assert (found["accepted"], found["code"]) == (False, code)


def test_a_workflow_that_has_no_run_yet_takes_no_command(folder: Path) -> None:
    p = waiting()
    p.offer("shop.paid", "soon", event_id="o1")
    found = ordered(folder, p, "cancel", "r:soon", "--reason", "x", code=1)
    assert (found["code"], found["message"]) == (
        "unknown",
        "r:soon has not started: there are only events that it will wait for",
    )


# Events and dead letters --------------------------------------------------------------------------


def test_an_event_that_a_step_waited_for_says_so(folder: Path) -> None:
    p = waiting()
    p.offer("shop.veto", event_id="v1")
    p.offer("shop.veto", event_id="v1")
    write(folder, p)
    first, again = call_json("event", "v1")["events"]
    assert (first["fate"], first["workflows"][0]["effect"]) == ("decided", "received")
    assert first["workflows"][0]["reason"] == "step veto waited for it"
    assert again["workflows"][0]["effect"] == "dismissed"
    assert "matched: it is what workflow r:k waited for" in text("event", "v1")


def test_a_kept_event_says_what_has_become_of_it_since(folder: Path) -> None:
    p = waiting()
    p.offer("shop.paid", event_id="o1")
    p.offer("shop.paid", event_id="o2")
    p.offer("shop.paid", "soon", event_id="o3")
    write(folder, p)
    said = {name: call_json("event", name)["events"][0]["workflows"][0] for name in ("o1", "o2", "o3")}
    assert {one["effect"] for one in said.values()} == {"kept"}
    assert said["o1"]["reason"] == "no step waits for it yet"
    assert said["o3"]["reason"] == "no workflow of this id has started yet"
    p = waiting()
    p.offer("shop.paid", event_id="o1")
    p.offer("shop.paid", event_id="o2")
    p.succeed("order")
    p.succeed("ship")
    p.offer("shop.paid", event_id="o3")
    (folder / "mesh.db").unlink()
    write(folder, p)
    said = {name: call_json("event", name)["events"][0]["workflows"][0] for name in ("o1", "o2", "o3")}
    assert [said[name]["effect"] for name in said] == ["received", "unclaimed", "dismissed"]
    assert said["o1"]["reason"] == "it was kept until step paid waited for it"
    assert said["o2"]["reason"] == "it was kept, and no step took it before the workflow completed"
    assert "it is a dead letter" in text("event", "o2")


def test_an_event_that_a_step_may_wait_for_is_accepted_before_it_is_decided(folder: Path) -> None:
    p = waiting()
    p.cloud_events.append({"specversion": "1.0", "id": "x1", "source": "/s", "type": "shop.paid", "subject": "k"})
    p.cloud_events.append({"specversion": "1.0", "id": "x2", "source": "/s", "type": "shop.other", "subject": "k"})
    write(folder, p)
    with_broker(folder, lambda broker: commit_ingress(broker, 3))
    [found] = call_json("event", "x1")["events"]
    assert found["fate"] == "accepted"
    assert found["routes"][0]["offered"] == ["r:k"]
    assert "+ r: it takes events of type t, not shop.paid; a step may wait for it in r:k" in text("event", "x1")
    assert call_json("event", "x2")["events"][0]["fate"] == "unwanted"


def test_unclaimed_events_are_dead_letters_of_their_own_kind(folder: Path) -> None:
    p = waiting()
    p.offer("shop.paid", event_id="o1", data={"amount": 3})
    p.command("cancel")
    write(folder, p)
    [letter] = call_json("dlq", "list", "--code", "unclaimed")["dead_letters"]
    assert (letter["topic"], letter["offset"]) == ("mesh.events", 1)
    assert call_json("dlq", "list", "--code", "malformed")["total"] == 0
    assert "No such dead letters." in text("dlq", "list", "--code", "malformed")
    shown = text("dlq", "show", letter["id"])
    assert "no step took it before the workflow cancelled" in shown
    assert "mesh workflows show 'r:k'" in shown
    assert '"amount":3' in shown
    assert call_json("status")["events"] == {"seen": 2, "waiting": 2, "matched": 2, "unwanted": 0, "dead_lettered": 0}


# Why something is stuck ---------------------------------------------------------------------------


def stuck(folder: Path, p: ToldPartition) -> list[str]:
    write(folder, p)
    return [one["what"] for one in call_json("status")["stuck"]]


def test_status_counts_waits_and_iterations_and_names_the_awaited_events(folder: Path) -> None:
    p = waiting()
    p.succeed("order")
    p.start("two", event_id="e2")
    p.succeed("order", key="two")
    said = stuck(folder, p)
    assert "2 steps wait, the oldest 1 min for event shop.paid" in said
    assert "2 steps wait, the oldest 1 min for event shop.veto, without a time-out" in said
    assert call_json("status")["steps"]["waiting"] == 6
    assert "6 waiting for an event or a time" in text("status")


def test_status_says_that_a_for_each_waits_for_its_incidents_alone(folder: Path) -> None:
    p = iterating()
    assert not any("for-each" in one for one in stuck(folder, p))
    steps = {name: count for name, count in call_json("status")["steps"].items() if count}
    assert steps == {"running": 2, "iterating": 1, "incident": 1}
    p = iterating()
    p.succeed("check[3]")
    p.succeed("check[4]")
    (folder / "mesh.db").unlink()
    assert "for-each check waits for its incidents alone: 4 of 5 items are done" in stuck(folder, p)
    assert "mesh workflows skip 'r:k' --step check" in text("status")


def test_status_says_that_a_time_has_come_and_no_router_acts(folder: Path) -> None:
    p = ToldPartition(route({"rest": {"wait": "30s"}}))
    p.start()
    assert stuck(folder, p) == ["the time of a step has come 30 s ago, and no router has acted on it"]


def test_status_does_not_call_a_time_overdue_that_is_still_to_come(folder: Path) -> None:
    p = ToldPartition(route({"rest": {"wait": "1h"}}))
    p.start()
    assert stuck(folder, p) == []


# Limits -------------------------------------------------------------------------------------------


def limited(count: int, **numbers: Any) -> ToldPartition:
    """Many that wait for one slot: the later, the higher their priority."""
    limits = {"openai": numbers or {"concurrency": 1}}
    p = ToldPartition(route({"a": agent(limit="openai")}, limits=limits, priority="${{ event.data }}"))
    for n in range(count):
        p.start(f"k{n}", event_id=f"e{n}", data=n)
        p.deliver()
    return p


def test_a_queued_step_says_for_which_limit_it_waits_and_how_many_are_before_it(folder: Path) -> None:
    write(folder, limited(4))
    shown = text("workflow", "r:k1")
    assert "a queued for limit openai the workflow started" in shown
    assert "a: queued for 1 min; waits for limit openai: 1 of 1 out, 2 before it" in shown
    assert "a dispatched to x openai has granted a slot" in text("workflow", "r:k0")


def test_a_limiter_shows_how_it_stands_and_is_listed_only_where_it_is_asked_for(folder: Path) -> None:
    p = limited(3, concurrency=1, rate="5/1m")
    p.succeed("a", key="k0")
    p.deliver()
    write(folder, p)
    shown = text("workflow", "mesh.limit:openai")
    assert "mesh.limit:openai standing" in shown
    assert re.search(r"r:k1/\w+/a/1 wants a slot, priority 1", shown)
    assert re.search(r"slot given back by r:k0/\w+/a/1", shown)
    assert re.search(r"slot granted to r:k2/\w+/a/1", shown)
    assert re.search(r"1 of 1 out, 5 in 60 s\nwaits: r:k1/\w+/a/1 \(priority 1\)", shown)
    assert "a slot of limit openai given back" in text("workflow", "r:k0")
    assert "mesh.limit" not in text("workflows")
    assert "mesh.limit:openai" in text("workflows", "--all")
    assert "standing" not in text("status")


def test_a_long_queue_is_cut_off_and_a_rate_alone_has_no_number_of_places(folder: Path) -> None:
    p = limited(30, rate="1/1h")
    p.give(TimerDue(due_at_ms=0, workflow_id="mesh.limit:openai", kind="rate"))
    write(folder, p)
    shown = text("workflow", "mesh.limit:openai")
    assert "1 out, 1 in 3600 s" in shown
    assert "... and 9 more" in shown


def test_a_granted_slot_that_is_on_its_way_is_waited_for_by_the_limits_name(folder: Path) -> None:
    p = ToldPartition(route({"a": agent(limit="openai")}, limits={"openai": {"concurrency": 1}}))
    p.start()
    [request] = p.crossing()
    write(folder, p)
    assert "a: queued for 1 min; waits for limit openai\n" in text("workflow", "r:k") + "\n"
    p.give(request)
    (folder / "mesh.db").unlink()
    write(folder, p)
    assert "waits for limit openai: 1 of 1 out" in text("workflow", "r:k")
