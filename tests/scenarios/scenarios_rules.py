"""Scenarios of the rules beyond a plain graph.

Joins, for-each, loops, waits, values, events, ends, undo, hand-over.
"""

from collections.abc import Callable
from typing import Any

from scenario_table import begin, scenario

from mesh import HandOver, NonRetryable
from mesh.testing import MeshKit, dies, fails, hangs, silent, uses


def task(agent: str, value: Any = 1, **more: Any) -> dict[str, Any]:
    return {"agent": agent, "input": value, **more}


@scenario
def the_first_of_several(mesh: MeshKit) -> None:
    """The first that succeeds wins; the others are cancelled."""
    mesh.agent("fast", "fast")
    mesh.agent("slow", silent)
    mesh.agent("judge", lambda found: found)
    judge = task("judge", {"a": "${{ steps.a }}", "b": "${{ steps.b }}"}, needs={"first_of": ["a", "b"]})
    run = begin(mesh, {"a": task("slow"), "b": task("fast"), "judge": judge})
    assert run.outcome.data == {"judge": {"a": None, "b": "fast"}}
    assert run.steps["a"] == "cancelled"


@scenario
def two_of_three(mesh: MeshKit) -> None:
    """Two have succeeded, and that is enough, whatever becomes of the third."""
    mesh.agent("good", "good")
    mesh.agent("bad", fails("Boom", retryable=False))
    mesh.agent("judge", "done")
    steps = {"a": task("good"), "b": task("bad", on_exhausted="continue"), "c": task("good")}
    run = begin(mesh, {**steps, "judge": task("judge", needs={"count": 2, "of": ["a", "b", "c"]})})
    assert run.outcome.data == {"judge": "done"}


@scenario
def any_is_enough(mesh: MeshKit) -> None:
    """One success is enough for a join, and the others go on.

    Where none can come any more, the step is blocked, and an end says so.
    """
    mesh.agent("good", "good")
    mesh.agent("bad", fails("Boom", retryable=False))
    mesh.agent("stuck", hangs)
    mesh.agent("judge", "judged")
    stuck = task("stuck", run_timeout="400ms", retry={"non_retryable": "run_timeout"}, on_exhausted="continue")
    steps = {
        "a": stuck,
        "b": task("good"),
        "c": task("bad", on_exhausted="continue"),
        "some": task("judge", needs={"any": ["a", "b"]}),
        "none": task("judge", needs={"any": ["a", "c"]}),
        "over": {
            "needs": "none",
            "if": "status.none == 'blocked'",
            "end": {"status": "failed", "reason": "nobody could"},
        },
    }
    run = begin(mesh, steps)
    run.reaches("some", "succeeded")
    assert (run.outcome.status, run.outcome.reason) == ("failed", "over: nobody could")


@scenario
def a_failure_that_is_taken(mesh: MeshKit) -> None:
    """A step whose condition reads how another came out takes its failure in hand."""
    mesh.agent("payments", fails("CardRefused", retryable=False))
    mesh.agent("caller", "called")
    mesh.agent("shipper", "shipped")
    steps = {
        "charge": task("payments", on_exhausted="continue"),
        "ship": task("shipper", needs="charge"),
        "call": task("caller", needs="charge", **{"if": "status.charge == 'failed'"}),
    }
    assert begin(mesh, steps).outcome.data == {"ship": None, "call": "called"}


@scenario
def for_each_item(mesh: MeshKit) -> None:
    """Two items at a time; one may fail."""
    mesh.agent("checker", [fails("Unreadable", times=1), "b", "c", "d"])
    each = {"items": "${{ event.data }}", "concurrency": 2, "tolerate": 1}
    check = task("checker", "${{ item }}", for_each=each, retry={"attempts": 1})
    run = begin(mesh, {"check": check}, data=["a", "b", "c", "d"])
    assert run.outcome.data == {"check": [None, "b", "c", "d"]}


@scenario
def a_loop_with_a_bound(mesh: MeshKit) -> None:
    """A draft is made better until it is good enough."""
    mesh.agent("writer", lambda told: f"draft after {told}")
    mesh.agent("critic", [{"score": 3}, {"score": 9}])
    repeat = {"from": "draft", "until": "steps.evaluate.score >= 8", "limit": 5}
    steps = {
        "draft": task("writer", "${{ steps.evaluate }}"),
        "evaluate": task("critic", "${{ steps.draft }}", needs="draft", repeat=repeat),
    }
    assert begin(mesh, steps).outcome.data == {"evaluate": {"score": 9}}


@scenario
def loops_that_come_to_their_limit(mesh: MeshKit) -> None:
    """An operator grants one round more, and a rejection that closes a loop goes round.

    A loop goes on without success. A for-each has no items, and another fails too often.
    """
    mesh.agent("critic", [{"score": 1}, {"score": 2}, {"score": 9}, {"score": 0}])
    mesh.agent("bad", fails("Boom", retryable=False))
    mesh.person("ana", roles="editor")
    loop = {"until": "steps.a.score > 8", "limit": 2}
    review = {"ask": "Round ${{ round }}?", "payload": "${{ round }}", "role": "editor"}
    bad = task("bad", "${{ item }}", on_exhausted="continue", needs="c")
    steps = {
        "a": task("critic", repeat=loop),
        "b": {"needs": "a", "approval": review, "repeat": {"until": "steps.b.verdict == 'approved'", "limit": 3}},
        "c": task("critic", needs="b", repeat={"until": "steps.c.score > 8", "limit": 1, "on_limit": "continue"}),
        "empty": {**bad, "for_each": []},
        "often": {**bad, "for_each": {"items": [1, 2], "concurrency": 1, "tolerate": 1}},
    }
    run = begin(mesh, steps)
    run.needs_operator("a")
    run.retry("a", by="op")
    run.reject("b", by="ana", reason="once more")
    run.approve("b", by="ana")
    assert run.outcome.data == {"empty": [], "often": [None, None]}


@scenario
def waits_for_a_time_and_an_event(mesh: MeshKit) -> None:
    """An event that came before its wait is kept; one that does not come in time is skipped."""
    wait = {"event": "shop.paid", "key": "${{ event.subject }}"}
    steps = {
        "rest": {"wait": "300ms"},
        "paid": {"needs": "rest", "wait": wait},
        "more": {"needs": "paid", "wait": {**wait, "event": "shop.more", "timeout": "300ms", "on_timeout": "skip"}},
    }
    run = begin(mesh, steps)
    mesh.publish(type="shop.paid", subject="k", data={"amount": 5})
    run.reaches("more", "waiting")
    mesh.advance("300ms")
    assert run.output("paid")["data"] == {"amount": 5}
    assert run.outcome.status == "completed"


@scenario
def found_by_an_alias(mesh: MeshKit) -> None:
    """An event that knows the payment alone finds the workflow of it."""
    mesh.agent("psp", {"payment_id": "p-1"})
    steps = {
        "charge": task("psp", alias="${{ steps.charge.payment_id }}"),
        "settled": {
            "needs": "charge",
            "wait": {"event": "psp.settled", "alias": "charge", "key": "${{ event.data.payment }}"},
        },
    }
    run = begin(mesh, steps)
    run.reaches("settled", "waiting")
    mesh.publish(type="psp.settled", data={"payment": "p-1"})
    assert run.outcome.status == "completed"


@scenario
def values_events_and_an_early_end(mesh: MeshKit) -> None:
    """A value is computed, and an event is emitted that starts another route.

    The rest is ended early.
    """
    mesh.agent("greeter", lambda total: f"hello, {total}")
    mesh.agent("slow", silent)
    greet = {"greet": task("greeter", "${{ event.data.total }}")}
    mesh.route({"route": "other", "on": {"type": "priced"}, "key": "${{ event.subject }}", "steps": greet})
    steps = {
        "price": {"value": {"total": "${{ event.data.n * 3 }}"}},
        "tell": {"needs": "price", "emit": {"type": "priced", "subject": "k", "data": "${{ steps.price }}"}},
        "work": task("slow"),
        "enough": {"needs": "tell", "end": {"status": "completed", "reason": "enough", "output": "${{ steps.price }}"}},
    }
    assert begin(mesh, steps, data={"n": 2}).outcome.data == {"total": 6}
    assert mesh.run("other:k").outcome.data == {"greet": "hello, 6"}


@scenario
def what_was_done_is_undone(mesh: MeshKit) -> None:
    """The last first, one at a time, before the workflow ends as failed."""
    for name in ("airline", "hotel"):
        mesh.agent(name, {"id": name})
        mesh.agent(f"{name}-cancel", "cancelled")
    mesh.agent("cars", fails("NoCars", retryable=False))
    steps = {
        "flight": task("airline", undo=task("airline-cancel", "${{ steps.flight.id }}")),
        "hotel": task("hotel", needs="flight", undo=task("hotel-cancel", "${{ steps.hotel.id }}")),
        "car": task("cars", needs="hotel", on_exhausted="fail"),
    }
    assert begin(mesh, steps).outcome.status == "failed"


@scenario
def handed_from_agent_to_agent(mesh: MeshKit) -> None:
    """An agent passes its task on to another that the route allows."""
    mesh.agent("triage", HandOver("billing", {"question": "why so much?"}))
    mesh.agent("billing", lambda given: f"about {given['question']}")
    run = begin(mesh, {"ask": task("triage", handover={"to": ["billing"], "hops": 2})})
    assert run.outcome.data == {"ask": "about why so much?"}


@scenario
def a_workflow_that_calls_another(mesh: MeshKit) -> None:
    """A step is a whole workflow of another route. It fails once, and is called again."""
    mesh.agent("translator", [fails("Boom", retryable=False), "Hallo"])
    work = task("translator", "${{ event.data.text }}", on_exhausted="fail")
    mesh.route({"route": "translation", "steps": {"work": work}, "output": "${{ steps.work }}"})
    run = begin(mesh, {"translate": {"workflow": "translation", "input": {"text": "${{ event.data }}"}}}, data="Hello")
    assert "failed: work: Boom" in run.needs_operator("translate")
    run.retry("translate", by="op")
    assert run.outcome.data == {"translate": "Hallo"}


@scenario
def a_budget_that_runs_out(mesh: MeshKit) -> None:
    """What an attempt may take is set aside before it goes out.

    When there is not enough, a person is asked for more.
    """
    mesh.agent("writer", [uses("one", tokens=90), uses("two", tokens=80)])
    mesh.person("ana", roles="lead")
    steps = {
        "first": task("writer", reserve={"tokens": 100}),
        "second": task("writer", needs="first", reserve={"tokens": 100}),
    }
    run = begin(mesh, steps, budget={"tokens": 150, "on_exhausted": "ask", "role": "lead"})
    run.reaches("second", "held")
    [question] = [name for name, status in run.steps.items() if status == "asking"]
    run.approve(question, by="ana", payload={"tokens": 50})
    assert run.outcome.data == {"second": "two"}


@scenario
def a_slice_of_the_budget(mesh: MeshKit) -> None:
    """A workflow that is called may spend what was set aside for it.

    What it has taken counts as its caller's. The next call is held until then.
    """
    mesh.agent("reader", [uses("one", tokens=30), uses("two", tokens=50), uses("three", tokens=10)])
    mesh.agent("writer", uses("done", tokens=5))
    more = task("reader", needs="read", reserve={"tokens": 50}, **{"if": "event.data == 'long'"})
    mesh.route({"route": "look", "steps": {"read": task("reader", reserve={"tokens": 50}), "more": more}})
    steps = {
        "one": {"workflow": "look", "input": "long", "reserve": {"tokens": 100}},
        "two": {"workflow": "look", "input": "short", "reserve": {"tokens": 60}},
        "write": task("writer", needs=["one", "two"], reserve={"tokens": 5}),
    }
    run = begin(mesh, steps, budget={"tokens": 150})
    assert run.outcome.data == {"write": "done"}


@scenario
def a_call_for_each_item(mesh: MeshKit) -> None:
    """Each item of a list has a workflow of its own.

    What they did is undone when the rest fails.
    """
    mesh.agent("booker", str.upper)
    mesh.agent("payer", fails("NoMoney", retryable=False))
    mesh.agent("canceller", "cancelled")
    mesh.route({"route": "book", "steps": {"work": task("booker", "${{ event.data }}")}, "output": "${{ steps.work }}"})
    undo = task("canceller", "${{ steps.stays }}")
    each = {"items": "${{ event.data }}", "concurrency": 1}
    stays = {"workflow": "book", "input": "${{ item }}", "for_each": each, "undo": undo}
    steps = {"stays": stays, "pay": task("payer", "${{ steps.stays }}", needs="stays", on_exhausted="fail")}
    run = begin(mesh, steps, data=["rome", "oslo", "bonn"])
    assert run.outcome.status == "failed"


@scenario
def agents_that_fall_silent(mesh: MeshKit) -> None:
    """One that nobody begins, one that dies over it, and one that is well."""
    mesh.agent("digger", [silent, dies(), "dug"])
    periods = {"timeout": "1m", "start_timeout": "600ms", "heartbeat": "600ms"}
    run = begin(mesh, {"dig": task("digger", retry={"attempts": 4, "backoff": "100ms"}, **periods)})
    assert run.outcome.data == {"dig": "dug"}


@scenario
def a_capability_and_who_has_it(mesh: MeshKit) -> None:
    """Two agents have one capability, and one of them is chosen.

    It fails in a way that is not retried, and an operator's retry goes to the other.
    """
    tried: list[str] = []

    def translator(name: str) -> Callable[[str], str]:
        def translate(text: str) -> str:
            tried.append(name)
            if len(tried) == 1:
                raise NonRetryable("the quota is used up", kind="quota")
            return f"Hallo, by {name}"

        return translate

    for name in ("deepl", "llm"):
        mesh.agent(name, translator(name), capabilities=["translate"])
    run = begin(mesh, {"translate": {"capability": "translate", "input": "${{ event.data }}"}}, data="Hello")
    assert "quota" in run.needs_operator("translate")
    run.retry("translate", by="op")
    assert run.outcome.data == {"translate": f"Hallo, by {tried[1]}"}
    assert sorted(tried) == ["deepl", "llm"]


@scenario
def a_capability_that_nobody_has(mesh: MeshKit) -> None:
    """Nobody is registered for it, so it waits for an operator."""
    mesh.agent("llm", "Hallo", capabilities=["translate"])
    run = begin(mesh, {"sum": {"capability": "summarize", "input": 1, "on_exhausted": "fail"}})
    assert "no agent is registered for the capability summarize" in run.needs_operator("sum")
