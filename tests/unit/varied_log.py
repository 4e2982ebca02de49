"""A varied run of the core, as log records and the states that they give.

`tests/data/log-v*.jsonl` were made of it.

`python tests/unit/varied_log.py NEW_FILE` writes the run of today's code to a new file. It never
writes over one: what a released version wrote is history, and all later versions must replay it.
"""

import json
import sys
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from one_partition import Partition, agent, approval, called_route, calling, route, scheduled

from mesh.codec.state import workflow_document
from mesh.core import ids
from mesh.core.clock import Sighting
from mesh.core.crossings import crossing_id, parse_crossing_id
from mesh.core.decide import Decided, park
from mesh.core.delegations import KnownDelegation
from mesh.core.events import ClockHeld, DelegationGiven, InputAttempted, InputParked, LogImported, PayloadsSealed
from mesh.core.forks import Fork, KeptResult
from mesh.core.inputs import CommandGiven, TaskUndeliverable, Undeliverable
from mesh.core.pauses import agent_target, route_target
from mesh.core.route import Route
from mesh.core.signing import Proof

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def varied_run() -> Partition:
    """Every event, at least once, over several workflows and owners."""
    steps = {
        "classify": agent("classifier", "${{ event.data }}", timeout="30s", retry={"attempts": 2, "backoff": "1s"}),
        "duplicates": agent("finder", {"n": "${{ event.data.n }}"}),
        "draft": agent("drafter", "${{ steps.classify }}", needs=["classify", "duplicates"]),
        "review": approval(
            payload="${{ steps.draft }}", deadline="1h", needs="draft", **{"if": "steps.classify.risky"}
        ),
        "publish": agent("publisher", "${{ steps.review.payload }}", needs="review"),
        "sorry": agent("mailer", needs="review", **{"if": "steps.review.verdict == 'rejected'"}),
    }
    rules = route(_RULES, route="triage", keep_events="1h")
    limited = route(_LIMITED, route="triage", budget=_BUDGET)
    changed = route({**steps, "thanks": agent("mailer", needs="publish")}, route="triage")
    callers = route({"call": calling(timeout="1h"), "more": agent(needs="call")}, route="caller")
    sub = called_route({"work": agent("worker", "${{ event.data }}", on_exhausted="fail", retry={"attempts": 1})})
    named = route({"a": agent(alias="${{ steps.a }}", undo={"agent": "u", "input": 1}), "b": agent()}, route="named")
    daily = scheduled({"a": agent()}, "0 9 * * *", "Europe/Berlin", route="daily")
    queues = route({"ask": agent(limit="api")}, route="triage", limits={"api": {"concurrency": 1, "rate": "5/1m"}})
    sliced = route(_SLICED, route="caller", budget={"tokens": 140, "usd": 1})
    first = route(steps, route="triage", on_repeat="new_run_after_end")
    voted = route(
        {
            "review": approval(quorum=2, reason="reject", deadline="4h", **_ASKING),
            "buy": agent("buyer", needs="review", approve={"role": "maintainer"}),
        },
        route="triage",
    )
    wrong, right = _correcting("steps.judge.rating > 0"), _correcting("steps.judge.score > 0")
    secret = route({"a": agent()}, route="triage", private=True)
    p = Partition(
        first, callers, sub, rules, limited, changed, named, daily, queues, sliced, voted, wrong, right, secret
    )
    _finish(p)
    _reject(p)
    _stop(p)
    _go_wrong(p)
    _call(p, callers)
    _go_round(p, rules)
    _undo(p, rules)
    _go_each(p, rules)
    _spend(p, limited)
    _slice(p, sliced)
    _move(p, changed)
    _name(p, named)
    _start_by_itself(p, daily)
    _queue(p, queues)
    _correct(p, wrong, right)
    _keep_time(p)
    _vote(p, voted)
    _say(p, voted)
    _hold(p, first)
    _erase(p, secret)
    return p


def _hold(p: Partition, rules: Route) -> None:
    """A pause in which an output is given by hand, a fork of the run, pauses of more."""
    p.start("held", digest=rules.digest)
    p.command("pause", key="held", reason="the finder is wrong")
    p.command("complete", step="duplicates", key="held", output={"n": 0})
    p.succeed("classify", {"risky": False}, key="held")
    p.command("resume", key="held")
    run_id = p.workflow("held").run_id
    event = {"specversion": "1.0", "id": "e9", "source": "/orders", "type": "t", "subject": "held", "data": {"n": 1}}
    kept = {"classify": KeptResult(status="succeeded", output={"risky": False})}
    p.fork("held~1", "duplicates", Fork(of=p.id_of("held"), run_id=run_id, event=event, steps=kept), to=rules)
    p.fork("held", "duplicates", Fork(into=p.id_of("held~1")))
    for target in (agent_target("classifier"), route_target("triage")):
        p.pause(target)
        p.start(f"paused-{target}", digest=rules.digest)
        p.pause(target, "resume")
        p.release()
    p.pause(agent_target("drafter"))


def _erase(p: Partition, secret: Route) -> None:
    """A private run that is erased, and one of which only seals are left."""
    p.start("private", digest=secret.digest)
    p.succeed("a", {"name": "Ana"}, key="private")
    p.command("erase", key="private", reason="asked for", keys=("k1",))
    given = CommandGiven(
        workflow_id=p.id_of("sealed"), command_id="c", command="cancel", by="op", **p._inbox("mesh.commands", None)
    )
    p._write(given, Decided((PayloadsSealed(key="k2", body="AAAA", sends=1),), None))


def _vote(p: Partition, voted: Route) -> None:
    """Votes, an edit, a vote that is taken back, a comment, and an answer that does not count."""
    p.directory = replace(p.directory, roles={"ana": frozenset({"maintainer"}), "ben": frozenset({"maintainer"})})
    p.start("voted", digest=voted.digest)
    p.vote("ana", key="voted")
    p.vote("ana", "withdraw", key="voted")
    p.vote("ben", "edit", key="voted", payload={"n": 2})
    p.vote("ana", "comment", key="voted", text="better")
    p.vote("eve", key="voted")
    p.vote("dan", key="voted", jws="a.b.c", proof=Proof(kid="kid", signer="dan", how="own", people="sha256:1"))
    p.vote("ana", "claim", key="voted")
    p.vote("ana", "release", key="voted")
    p.vote("ben", "comment", key="voted", at_ms=p.now_ms + 5 * 3_600_000, text="late")
    p.order("extend", by_ms=3_600_000, key="voted")
    p.order("reassign", people=("eve",), key="voted")
    p.vote("ben", "ask", key="voted", text="since when?", to="maintainer")
    p.vote("ana", "inform", key="voted", text="Monday")
    p.vote("ben", "ask", key="voted", text="and why?", to="asker")
    p.succeed("review.ask2", {"text": "it broke", "proposal": {"n": 3}}, key="voted")
    p.vote("ben", "ask", key="voted", text="who says so?", to="asker")
    p.vote("ana", key="voted", form={"seen": True})
    p.now_ms += 3_600_001
    p.vote("ben", key="voted")
    p.want("buy", payload={"n": 1}, key="voted")
    p.vote("ana", step="buy.tool-pay", key="voted", payload={"n": 3})
    p.succeed("buy", key="voted")


_ASKING: dict[str, Any] = {
    "escalate": [{"after": "1h", "to": "lead"}],
    "ask_back": {"to": [{"role": "maintainer"}, {"agent": "asker"}], "extends": "5m"},
}
_RULES: dict[str, Any] = {
    "price": {"value": {"n": "${{ event.data.n }}"}},
    "tell": {"needs": "price", "emit": {"type": "told", "data": "${{ steps.price }}"}},
    "ask": agent("triage", needs="tell", handover={"to": ["billing"]}, undo=agent("untriage", "${{ steps.ask }}")),
    "write": agent("writer", ["${{ round }}", "${{ steps.rate }}"], needs="ask"),
    "rate": agent("critic", needs="write", repeat={"from": "write", "until": "steps.rate > 1", "limit": 3}),
    "each": agent(
        "checker",
        "${{ item }}",
        needs="rate",
        for_each={"items": "${{ event.data.files }}", "concurrency": 1000, "tolerate": 1},
        retry={"attempts": 1},
        on_exhausted="continue",
        undo=agent("unchecker", "${{ steps.each }}"),
    ),
    "rest": {"needs": "each", "wait": "10s"},
    "paid": {"needs": "each", "wait": {"event": "paid", "timeout": "1h", "on_timeout": "skip"}},
    "race": agent("racer", needs={"first_of": ["rest", "paid"]}),
    "over": {"needs": "race", "if": "status.paid == 'succeeded'", "end": {"status": "failed", "reason": "paid"}},
}
_BUDGET: dict[str, Any] = {"tokens": 100, "time": "1h", "on_exhausted": "ask", "role": "maintainer"}
_LIMITED: dict[str, Any] = {
    "a": agent("spender", reserve={"tokens": 80}),
    "b": agent("spender", needs="a", reserve={"tokens": 80}),
    "c": agent("spender", needs="b", reserve={"tokens": 80}),
}


_SLICED: dict[str, Any] = {
    "each": calling(value="${{ item }}", for_each=[1, 2], reserve={"tokens": 60}, undo=agent("undoer", 1)),
    "quick": agent("asker"),
    "next": agent("writer", needs={"first_of": ["each", "quick"]}, reserve={"tokens": 80}),
}


def _say(p: Partition, voted: Route) -> None:
    """Delegate, vote under it, end it, and be away."""
    until_ms = p.now_ms + 24 * 3_600_000
    [given] = p.say("ana", "delegate", to="ben", until_ms=until_ms)
    assert isinstance(given, DelegationGiven)
    known = KnownDelegation(delegation=given.delegation, from_ms=p.now_ms, is_said=True)
    p.directory = replace(p.directory, delegations=(known,))
    p.start("represented", digest=voted.digest)
    p.vote("ben", key="represented", on_behalf="ana")
    p.say("ana", "end", delegation=given.delegation.id)
    p.say("ana", "absent", until_ms=until_ms)


def _to_each(p: Partition, rules: Route, key: str, files: list[Any]) -> None:
    p.start(key, digest=rules.digest, data={"n": 3, "files": files})
    p.hand_over("ask", "billing", {"why": "money"}, key=key)
    p.succeed("ask", {"id": 7}, key=key)
    p.succeed("write", "one", key=key)
    p.succeed("rate", 1, key=key)
    p.succeed("write", "two", key=key)
    p.now_ms += 1_000
    p.succeed("rate", 2, key=key)


def _go_round(p: Partition, rules: Route) -> None:
    """Rounds, a hand-over, an event in time and one too many.

    Then one that comes before the start, and one that nobody waits for.
    """
    _to_each(p, rules, "round", ["x", "y"])
    p.offer("paid", "round", event_id="p0", data=1)
    p.offer("paid", "round", event_id="p1", data=2)
    p.fail("each[0]", key="round")
    p.succeed("each[1]", {"fine": True}, key="round")
    p.succeed("race", key="round")
    p.succeed("each.undo", key="round")
    p.offer("paid", "early", event_id="p2", data=3)
    _to_each(p, rules, "early", [])
    p.offer("paid", "never", event_id="p3", data=4)
    p.wait(key="never")
    p.offer("paid", "later", event_id="p4", data=5)


def _undo(p: Partition, rules: Route) -> None:
    """The wait's time comes first; then all is undone, and a second cancel ends that too."""
    _to_each(p, rules, "undone", [])
    p.wait("rest", "undone")
    p.command("cancel", key="undone")
    p.succeed("each.undo", key="undone")
    p.fail("ask.undo", key="undone", retryable=False)
    p.command("retry", key="undone")
    _to_each(p, rules, "given-up", [1, 2, 3])
    for index in range(2):
        p.fail(f"each[{index}]", key="given-up")
    p.command("cancel", key="given-up")
    p.command("cancel", key="given-up")


def _go_each(p: Partition, rules: Route) -> None:
    """More items than one decision holds, and what a loop and an item leave to an operator."""
    _to_each(p, rules, "many", list(range(103)))
    p.succeed("each[5]", None, key="many")
    p.fail("each[102]", key="many")
    p.start("stuck-item", digest=rules.digest, data={"n": 1, "files": 5})
    p.succeed("ask", key="stuck-item")
    for _ in range(3):
        p.succeed("write", key="stuck-item")
        p.succeed("rate", 0, key="stuck-item")
    p.command("skip", key="stuck-item")


def _spend(p: Partition, limited: Route) -> None:
    p.start("spends", digest=limited.digest, data={})
    p.succeed("a", key="spends", usage={"tokens": 70})
    p.answer("b.budget", key="spends", payload={"tokens": 200})
    p.wait_budget("spends")
    p.succeed("b", key="spends", usage={"tokens": 0.5})


def _slice(p: Partition, sliced: Route) -> None:
    """Calls with slices, of which one ends and one is taken back; then what they did is undone."""
    p.start("caller:slices", digest=sliced.digest, data={})
    called = f"sub:caller:slices/{p.workflow('caller:slices').run_id}/each"
    p.deliver()
    p.succeed("work", key=f"{called}[0]", usage={"tokens": 20})
    p.deliver()
    p.succeed("quick", key="caller:slices")
    p.deliver()
    p.command("cancel", key="caller:slices")


def _to_review(p: Partition, key: str, *, risky: bool) -> None:
    p.start(key, data={"n": 1.5, "title": "Grüße"}, traceparent=TRACEPARENT)
    p.now_ms += 1_000
    p.succeed("duplicates", [], key=key)
    p.fail("classify", key=key)
    p.wait("classify", key)
    p.succeed("classify", {"risky": risky}, key=key)
    p.now_ms += 1_000
    p.succeed("draft", {"text": "Hello"}, key=key)


def _finish(p: Partition) -> None:
    _to_review(p, "edited", risky=True)
    p.answer(key="edited", by="eve")
    p.answer(key="edited", payload={"text": "Hello!", "big": 2**70}, reason="kinder")
    p.succeed("publish", {"url": None}, key="edited")
    p.succeed("publish", {"url": None}, key="edited")
    _to_review(p, "plain", risky=False)
    p.take_over("two")
    p.succeed("publish", key="plain")
    p.start("plain", event_id="e1")
    p.start("plain", event_id="e2", data={"n": 0})


def _reject(p: Partition) -> None:
    _to_review(p, "rejected", risky=True)
    p.answer(decision="reject", key="rejected", reason="no")
    p.succeed("sorry", key="rejected")
    _to_review(p, "expired", risky=True)
    p.wait("review", "expired")
    p.wait("sorry", "expired")


def _stop(p: Partition) -> None:
    _to_review(p, "cancelled", risky=True)
    p.command("cancel", key="cancelled", reason="a mistake")
    p.command("cancel", key="cancelled")
    p.start("forgotten", data={"n": 0})
    p.command("cancel", key="forgotten")
    p.wait(key="forgotten")


def _go_wrong(p: Partition) -> None:
    p.start("broken", data={})
    p.command("retry", key="broken", step="duplicates")
    p.fail("classify", key="broken", retryable=False)
    lost = TaskUndeliverable(
        workflow_id=p.id_of("stuck"), task_id="", attempt=1, code="topic_missing", message="no such topic"
    )
    p.give(lost)
    _to_review(p, "stuck", risky=True)
    p.give(
        Undeliverable(
            workflow_id=p.id_of("stuck"),
            effect_id=p.task_id("review", "stuck"),
            topic="mesh.approvals.requests",
            code="too_large",
            message="too large",
        )
    )
    _owners_own(p)


def _call(p: Partition, callers: Route) -> None:
    """A call that fails, is called again and succeeds.

    Then one that is taken back, and one that is refused.
    """
    p.start("caller:again", data=1, digest=callers.digest)
    p.pass_on()
    run = p.workflow("caller:again").run_id
    p.fail("work", key=f"sub:caller:again/{run}/call")
    p.pass_on()
    p.command("retry", key="caller:again")
    p.pass_on()
    p.succeed("work", key=f"sub:caller:again/{run}/call/2")
    p.pass_on()
    p.start("caller:gone", data=2, digest=callers.digest)
    p.pass_on()
    p.command("cancel", key="caller:gone")
    p.pass_on()
    p.start("caller:refused", data=3, digest=callers.digest)
    [call] = p.crossing()
    p.give(call)
    p.fail("work", key=call.workflow_id)
    p.give(call)
    p.pass_on()


def _move(p: Partition, changed: Route) -> None:
    """Over to another version, and to its end."""
    _to_review(p, "moved", risky=False)
    p.migrate(changed, key="moved")
    p.succeed("publish", key="moved")
    p.succeed("thanks", key="moved")


def _name(p: Partition, named: Route) -> None:
    """An alias that one workflow has and another wants.

    An event by it, and one that nobody takes.
    """
    for key in ("one", "two"):
        p.start(f"named:{key}", event_id=key, digest=named.digest)
        p.succeed("a", "p1", key=f"named:{key}")
        p.pass_on()
    for value in ("p1", "p2"):
        p.offer_by_alias("t", "a", value, digest=named.digest)
        p.pass_on()
    p.wait(key="mesh.alias:named.a/p2")
    p.command("cancel", key="named:two")
    for key in ("two", "one"):
        p.command("cancel", key=f"named:{key}")
        p.succeed("a.undo", key=f"named:{key}")
        p.pass_on()


def _start_by_itself(p: Partition, daily: Route) -> None:
    p.set_schedule(digest=daily.digest)
    p.fire("daily", late_ms=90_000)
    p.pass_on()


def _queue(p: Partition, queues: Route) -> None:
    """Two that wait for one slot, and one whose request can't be read."""
    for key in ("queue-1", "queue-2"):
        p.start(key, data=1, digest=queues.digest)
        p.deliver()
    p.succeed("ask", key="queue-1")
    p.deliver()
    p.start("queue-3", data=1, digest=queues.digest)
    [request] = p.crossing()
    about = parse_crossing_id(crossing_id(request))
    limiter = p.workflow(request.workflow_id)
    p._write(request, park(limiter, _parked(p), about, workflow_id=request.workflow_id, now_ms=p.now_ms))
    p.deliver()


def _correcting(until: str) -> Route:
    judge = agent("critic", needs="send", repeat={"from": "judge", "until": until, "limit": 2})
    send = agent("mailer", "${{ steps.ok.payload }}", needs="ok", retry={"attempts": 1})
    return route({"ok": approval(), "send": send, "judge": judge}, route="triage")


def _correct(p: Partition, wrong: Route, right: Route) -> None:
    """A bad edit and a condition that says nothing; both put right."""
    p.start("corrected", digest=wrong.digest)
    p.answer("ok", payload={"n": "bad"}, key="corrected")
    p.fail("send", kind="input_invalid", retryable=False, key="corrected")
    p.command("retry", step="send", key="corrected", task_input={"n": 0})
    p.fail("send", kind="input_invalid", retryable=False, key="corrected")
    p.command("retry", step="ok", key="corrected", reason="a bad edit")
    p.answer("ok", payload={"n": 2}, key="corrected")
    p.succeed("send", {}, key="corrected")
    p.succeed("judge", {"score": 1}, key="corrected")
    p.migrate(right, key="corrected")
    p.command("retry", key="corrected")


def _keep_time(p: Partition) -> None:
    """A jump of the clock, and an operator's word on it."""
    name = ids.clock_of(0, 1)
    given = CommandGiven(
        workflow_id=name, command_id="c", command="release", by="op", **p._inbox("mesh.commands", None)
    )
    seen = Sighting(boot="one", uptime_ms=1, at_ms=p.now_ms)
    p._write(given, Decided((ClockHeld(ahead_ms=86_400_000, reason="it jumped", seen=seen),), None))
    p._write(given, Decided((LogImported(mesh="mesh.@other", digest="0f", watermarks={"mesh.log/1": (4, 0)}),), None))
    again = CommandGiven(
        workflow_id=name, command_id="d", command="release", by="op", **p._inbox("mesh.commands", None)
    )
    p.give(again)


def _owners_own(p: Partition) -> None:
    """The two events that the owner writes without `decide`."""
    given = CommandGiven(
        workflow_id=p.id_of("stuck"), command_id="c", command="cancel", by="op", **p._inbox("mesh.commands", None)
    )
    workflow = p.workflow("stuck")
    p._write(given, Decided((InputAttempted(topic="mesh.inbox", offset=p.read["mesh.inbox"]),), workflow))
    p._write(given, Decided((_parked(p),), workflow))


def _parked(p: Partition) -> InputParked:
    return InputParked(
        code="poison",
        message="owners died on it time and again",
        topic="mesh.inbox",
        partition=0,
        offset=p.read["mesh.inbox"],
        timestamp_ms=p.now_ms,
        key="a2V5",
        value=None,
        headers=[("ce_id", "Yw==")],
    )


def dumped(p: Partition) -> str:
    """JSON lines: the log's records, and last what they must give."""
    lines = [json.dumps({"offset": n, "record": json.loads(out.value or b"")}) for n, out in enumerate(p.log)]
    gives = {
        "workflows": {name: workflow_document(workflow) for name, workflow in sorted(p.state.workflows.items())},
        "positions": p.state.positions,
        "watermarks": p.state.watermarks,
        "mark": p.state.mark,
        "sequence": p.state.sequence,
    }
    return "\n".join([*lines, json.dumps({"gives": gives}), ""])


if __name__ == "__main__":
    with Path(sys.argv[1]).open("x") as file:
        file.write(dumped(varied_run()))
