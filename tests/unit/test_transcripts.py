"""Golden transcripts: one scenario a file in tests/transcripts, to be read as a conversation.

`pytest --regen` writes them again; review the diff.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from one_partition import agent, approval, called_route, calling, route, scheduled
from transcript import Transcript

from mesh.core.inputs import ResultReceived, TaskUndeliverable, Undeliverable
from mesh.core.json_values import digest
from mesh.core.state import AgentCard, Directory

FOLDER = Path(__file__).parent.parent / "transcripts"
Scenario = Callable[[], Transcript]
SCENARIOS: dict[str, Scenario] = {}


def scenario(make: Scenario) -> Scenario:
    SCENARIOS[make.__name__.replace("_", "-")] = make
    return make


@scenario
def from_event_to_outcome() -> Transcript:
    """Two agents in parallel, a drafter, a person who edits, and a publisher."""
    steps = {
        "classify": agent("classifier", "${{ event.data }}"),
        "duplicates": agent("finder", "${{ event.data }}"),
        "draft": agent("drafter", {"triage": "${{ steps.classify }}"}, needs=["classify", "duplicates"]),
        "review": approval(
            ask="Post this reply?",
            payload="${{ steps.draft }}",
            deadline="24h",
            needs="draft",
            **{"if": "steps.classify.severity == 'high'"},
        ),
        "publish": agent("publisher", "${{ steps.review.payload }}", needs="review"),
    }
    t = Transcript("From an event to its outcome, with an edit on the way", route(steps))
    t.start(data={"title": "It crashes"})
    t.now_ms += 1_500
    t.succeed("duplicates", {"matches": []})
    t.succeed("classify", {"severity": "high"})
    t.now_ms += 3_000
    t.succeed("draft", {"text": "Thanks!"})
    t.now_ms += 60_000
    t.answer(payload={"text": "Thank you!"}, reason="kinder")
    t.now_ms += 200
    t.succeed("publish", {"url": "https://example.org/1"})
    t.note("A month later its memory ends.")
    t.wait()
    return t


@scenario
def a_condition_is_false() -> Transcript:
    """What is skipped satisfies those who need it.

    A skipped question passes its payload through.
    """
    steps = {
        "classify": agent("classifier"),
        "alarm": agent("pager", needs="classify", **{"if": "steps.classify == 'high'"}),
        "review": approval(payload={"level": "${{ steps.classify }}"}, needs="classify", **{"if": "false"}),
        "publish": agent("publisher", "${{ steps.review.payload }}", needs=["alarm", "review"]),
    }
    t = Transcript("Conditions that are false", route(steps))
    t.start()
    t.succeed("classify", "low")
    t.succeed("publish")
    return t


@scenario
def limits_and_priority() -> Transcript:
    """One at a time for two workflows; the later one has the higher priority."""
    steps = {
        "ask": agent(
            "caller",
            "${{ event.data.n }}",
            limit="openai",
            timeout="30s",
            retry={"attempts": 2, "backoff": "5s", "jitter": 0},
        )
    }
    limits = {"openai": {"concurrency": 1, "rate": "3/1m"}}
    t = Transcript(
        "A limit for all: one at a time, three a minute", route(steps, limits=limits, priority="${{ event.data.n }}")
    )
    t.start("low", data={"n": 1})
    t.deliver()
    t.start("lower", event_id="e2", data={"n": 0})
    t.deliver()
    t.start("high", event_id="e3", data={"n": 5})
    t.deliver()
    t.note("The slot of an attempt that is given up goes back, and the highest priority gets it, not the oldest.")
    t.now_ms += 1_000
    t.fail("ask", key="low")
    t.deliver()
    t.note("The next attempt must wait for its turn.")
    t.wait("ask", "low")
    t.deliver()
    t.succeed("ask", key="high")
    t.deliver()
    t.take_over("two")
    t.succeed("ask", key="low")
    t.deliver()
    t.note("Three have gone out in this minute: the fourth has a place, and waits for the time.")
    t.rate("mesh.limit:openai")
    grants = t.crossing()
    t.note("A cancel comes while the grant is on its way: the slot goes back all the same.")
    t.command("cancel", key="lower")
    for record in grants + t.crossing():
        t.give(record)
    t.wait(key="mesh.limit:openai")
    return t


@scenario
def tasks_outstanding() -> Transcript:
    """An agent's card says how many; a step is under that and a limit of its own."""
    steps = {
        "each": agent("busy", "${{ item }}", for_each="${{ event.data }}", limit="api"),
        "undone": agent(needs="each"),
    }
    card = AgentCard(name="busy", version="1", topic="mesh.tasks.busy", max_outstanding=2)
    t = Transcript(
        "At most two tasks outstanding for an agent",
        route(steps, limits={"api": {"concurrency": 5}}),
        directory=Directory(agents={"busy": card}),
    )
    t.start(data=[1, 2, 3])
    t.deliver()
    t.succeed("each[0]")
    t.deliver()
    t.note("A cancelled step gives back what was granted, and what was only asked for.")
    t.command("cancel")
    t.deliver()
    return t


@scenario
def starts_and_their_repeats() -> Transcript:
    t = Transcript("One event starts one run", route({"a": agent()}, on_repeat="new_run_after_end"))
    t.start()
    t.note("The upstream sends it again, and then another event of the same key.")
    t.start()
    t.start(event_id="e2")
    t.succeed("a", 1)
    t.note("After the end another event begins another run; results and events of the first change nothing in it.")
    old = t.task_id("a")
    t.start(event_id="e3")
    t.give(_result_of(t, old))
    t.succeed("a", 2)
    t.start()
    return t


def _result_of(t: Transcript, task: str) -> ResultReceived:
    return ResultReceived(task_id=task, attempt=1, workflow_id=t.id_of(), status="succeeded", output="old")


@scenario
def retries_until_it_works() -> Transcript:
    steps = {"a": agent("flaky", timeout="30s", retry={"attempts": 4, "backoff": "1s"})}
    t = Transcript("An agent that fails, is too slow, and then works", route(steps))
    t.start()
    t.now_ms += 400
    t.fail("a", kind="ConnectError")
    t.wait("a")
    t.note("No result for 30 s.")
    t.wait("a")
    t.wait("a")
    t.succeed("a", "at last")
    return t


@scenario
def retries_used_up() -> Transcript:
    steps = {"a": agent("broken", retry={"attempts": 2, "backoff": "1s", "jitter": 0}), "b": agent(needs="a")}
    t = Transcript("Attempts used up, and an operator's retry", route(steps))
    t.start()
    t.fail("a")
    t.wait("a")
    t.fail("a")
    t.note("It is an incident now, and nothing goes on. The agent is fixed.")
    t.command("retry", step="b")
    t.command("retry")
    t.succeed("a", 1)
    t.succeed("b", 2)
    return t


@scenario
def failures_that_end_it() -> Transcript:
    steps = {
        "a": agent("strict", on_exhausted="fail", retry={"attempts": 5, "non_retryable": ["no_title"]}),
        "review": approval(),
    }
    t = Transcript("on_exhausted: fail, and a kind that is not to be retried", route(steps))
    t.start()
    t.fail("a", kind="no_title")
    return t


@scenario
def agents_that_fall_silent() -> Transcript:
    """Signs of life are nobody's input; what is decided is that there were none."""
    periods = {"start_timeout": "30s", "run_timeout": "10m", "heartbeat": "20s"}
    t = Transcript(
        "An agent that does not begin, one that dies, one that works forever",
        route({"dig": agent("digger", timeout="1h", **periods, retry={"attempts": 4, "backoff": "1s", "jitter": 0})}),
    )
    t.start()
    t.note("No agent takes it.")
    t.fall_silent("dig", "start_timeout")
    t.wait("dig")
    t.note("One takes it, is heard of for a minute, and no more.")
    t.fall_silent("dig", "heartbeat_timeout", 80_000)
    t.wait("dig")
    t.note("The next is heard of all the time, and comes to no end.")
    t.fall_silent("dig", "run_timeout", 602_000)
    t.wait("dig")
    t.note("The one that was given up as dead had only been stopped. Its result counts, since the step is not settled.")
    t.succeed("dig", "gold", attempt=2)
    t.succeed("dig", "more gold")
    return t


@scenario
def late_and_foreign_results() -> Transcript:
    t = Transcript("One result counts for a task", route({"a": agent(timeout="10s"), "b": agent(needs="a")}))
    t.start()
    t.wait("a")
    t.note("The first attempt had timed out, and yet it succeeded: the work is done.")
    t.succeed("a", "of attempt 1", attempt=1)
    t.note("What comes now for this task comes too late, whatever it says.")
    t.succeed("a", "again", attempt=1)
    t.give(_result_of(t, t.task_id("nosuch")))
    t.give(_result_of(t, "of something else"))
    t.command("cancel")
    t.succeed("b", attempt=1)
    return t


@scenario
def answers_that_do_not_count() -> Transcript:
    steps = {"review": approval(deadline="1h", payload_schema={"type": "object", "required": ["n"]})}
    t = Transcript("Answers that are refused, and the one that counts", route(steps))
    t.answer(approval_id="r:k/4f2a9c01/review")
    t.start()
    t.answer(by="eve")
    t.answer(digest=digest("another payload"))
    t.answer(payload={})
    t.answer(approval_id=f"{t.id_of()}/00000000/review")
    t.note("The router is down over the deadline; two answers wait for it, one was in time.")
    t.now_ms += 7_200_000
    deadline = t.step("review").due_at_ms or 0
    t.answer(at_ms=deadline + 1, decision="reject")
    t.answer(at_ms=deadline - 1, reason="fine")
    t.answer()
    return t


@scenario
def a_rejection() -> Transcript:
    steps = {
        "review": approval(),
        "publish": agent("publisher", needs="review"),
        "announce": agent("herald", needs="publish"),
        "sorry": agent(
            "mailer", "${{ steps.review.reason }}", needs="review", **{"if": "steps.review.verdict == 'rejected'"}
        ),
    }
    t = Transcript("A rejection that a step takes, and one that nobody takes", route(steps))
    t.start()
    t.answer(decision="reject", reason="too harsh")
    t.succeed("sorry")
    u = Transcript(
        "And one that nobody takes", route({"review": approval(), "publish": agent(needs="review"), "log": agent()})
    )
    u.start()
    u.answer(decision="reject", reason="no")
    t.lines += ["", *u.lines]
    t.decisions += u.decisions
    return t


@scenario
def deadlines() -> Transcript:
    steps = {
        "soft": approval(deadline="1h", on_expiry="approve"),
        "hard": approval(deadline="2h", on_expiry="incident"),
        "last": approval(deadline="4h", on_expiry="reject", needs="soft"),
    }
    t = Transcript("What a deadline means: approve, incident, reject", route(steps))
    t.start()
    t.wait("soft")
    t.answer("soft")
    t.wait("hard")
    t.answer("hard")
    t.note("An operator has it asked again.")
    t.command("retry", step="hard")
    t.answer("hard")
    t.wait("last")
    t.answer("last")
    return t


@scenario
def cancelled_by_an_operator() -> Transcript:
    t = Transcript("Cancelled, with a question open and a task out", route({"a": agent(), "review": approval()}))
    t.command("cancel")
    t.start()
    t.command("retry")
    t.command("cancel", reason="wrong repository")
    t.succeed("a")
    t.answer()
    t.command("cancel")
    return t


@scenario
def what_can_not_be_sent() -> Transcript:
    t = Transcript(
        "A task and a question that the broker does not take", route({"a": agent("ghost"), "review": approval()})
    )
    t.start()
    message = "there is no topic mesh.tasks.ghost"
    task = t.task_id("a")
    t.give(TaskUndeliverable(workflow_id="r:k", task_id=task, attempt=1, code="topic_missing", message=message))
    t.give(
        Undeliverable(
            workflow_id="r:k", effect_id=t.task_id("review"), topic="t", code="too_large", message="too large"
        )
    )
    t.answer()
    t.command("retry")
    t.answer()
    t.succeed("a")
    t.give(
        Undeliverable(
            workflow_id="r:k", effect_id=f"{t.id_of()}/x/outcome", topic="t", code="too_large", message="too large"
        )
    )
    return t


@scenario
def expressions_that_fail() -> Transcript:
    steps = {
        "a": agent(),
        "b": agent("x", "${{ steps.a.title }}", needs="a"),
        "c": agent(needs="a", **{"if": "steps.a.count"}),
    }
    t = Transcript("A missing path, a condition that is not a bool, and an output that can't be made", route(steps))
    t.start()
    t.succeed("a", {"count": 1})
    t.command("retry", step="b")
    u = Transcript("And the output", route({"a": agent()}, output="${{ steps.a.title }}"))
    u.start()
    u.succeed("a", {})
    t.lines += ["", *u.lines]
    t.decisions += u.decisions
    return t


@scenario
def a_takeover() -> Transcript:
    t = Transcript("Another router goes on from the log alone", route({"a": agent(), "b": agent(needs="a")}))
    t.start()
    t.take_over("two")
    t.succeed("a", 1)
    t.take_over("three")
    t.succeed("a", 1)
    t.succeed("b", 2)
    return t


@scenario
def the_first_of_several() -> Transcript:
    """A payment, a deadline, a veto: the first decides.

    The others are cancelled, with what only served them.
    """
    steps = {
        "paid": {"wait": {"event": "shop.paid"}},
        "late": {"wait": "3d"},
        "look": agent("checker"),
        "veto": approval(needs="look", role="maintainer"),
        "ship": agent(
            "shipper",
            {"paid": "${{ status.paid == 'succeeded' }}", "by": "${{ steps.paid }}"},
            needs={"first_of": ["paid", "late", "veto"]},
        ),
    }
    t = Transcript("The first of several", route(steps))
    t.start()
    t.now_ms += 60_000
    t.offer("shop.paid", data={"amount": 3})
    t.note("What the checker still says counts for nothing.")
    t.succeed("look")
    t.succeed("ship")
    return t


@scenario
def some_of_many() -> Transcript:
    """Two of three opinions are enough.

    One of the agents has no attempt left, and the workflow continues without it.
    """
    never = {"retry": {"attempts": 1}, "on_exhausted": "continue"}
    steps = {
        "ann": agent("ann", **never),
        "bob": agent("bob", **never),
        "cy": agent("cy", **never),
        "sum": agent(
            "judge",
            {"ann": "${{ steps.ann }}", "bob": "${{ steps.bob }}", "cy": "${{ steps.cy }}"},
            needs={"count": 2, "of": ["ann", "bob", "cy"]},
        ),
        "sorry": {"needs": "ann", "if": "status.ann == 'failed'", "value": "ann has no opinion"},
    }
    t = Transcript("Two of three", route(steps))
    t.start()
    t.fail("ann", kind="Asleep")
    t.succeed("bob", "yes")
    t.succeed("cy", "no")
    t.succeed("sum", "yes and no")
    return t


@scenario
def joins_that_can_not_be() -> Transcript:
    """What was only skipped lets a join be skipped; what has failed blocks it."""
    once: dict[str, Any] = {"retry": {"attempts": 1}, "on_exhausted": "continue"}
    steps = {
        "a": agent(**{"if": "event.data.a"}, **once),
        "b": agent(**{"if": "event.data.b"}),
        "any": agent("joiner", needs={"any": ["a", "b"]}),
    }
    t = Transcript("Joins that can't be", route(steps))
    t.start("none", data={"a": False, "b": False})
    t.start("one", event_id="e2", data={"a": True, "b": False})
    t.fail("a", key="one")
    t.start("both", event_id="e3", data={"a": False, "b": True})
    t.succeed("b", key="both")
    t.succeed("any", key="both")
    return t


@scenario
def for_each_item() -> Transcript:
    """Two at a time. One item fails, which is tolerated.

    The next failure is not, and an operator decides.
    """
    steps = {
        "check": agent(
            "checker",
            {"path": "${{ item.path }}", "n": "${{ index }}"},
            for_each={"items": "${{ event.data.files }}", "concurrency": 2, "tolerate": 1},
            retry={"attempts": 1},
        ),
        "report": agent("reporter", "${{ steps.check }}", needs="check"),
    }
    t = Transcript("For each item", route(steps))
    t.start(data={"files": [{"path": "a"}, {"path": "b"}, {"path": "c"}, {"path": "d"}]})
    t.succeed("check[1]", "b is fine")
    t.fail("check[0]", kind="Unreadable")
    t.succeed("check[2]", "c is fine")
    t.fail("check[3]", kind="Unreadable")
    t.command("retry", step="check[3]")
    t.note("A result that comes twice counts once.")
    t.succeed("check[2]", "c again")
    t.succeed("check[3]", "d is fine")
    t.succeed("report", "done")
    t.note("An empty list is done at once.")
    t.start("empty", event_id="e2", data={"files": []})
    return t


@scenario
def a_loop_with_a_bound() -> Transcript:
    """An evaluator sends a draft back until it is good enough.

    The last round's outputs can be read in the next.
    """
    steps = {
        "draft": agent("writer", {"round": "${{ round }}", "told": "${{ steps.evaluate }}"}),
        "evaluate": agent(
            "critic",
            "${{ steps.draft }}",
            needs="draft",
            repeat={"from": "draft", "until": "steps.evaluate.score >= 8", "limit": 2},
        ),
        "publish": agent("publisher", "${{ steps.draft }}", needs="evaluate"),
    }
    t = Transcript("A loop with a bound", route(steps))
    t.start()
    first = t.task_id("draft")
    t.succeed("draft", "one")
    t.succeed("evaluate", {"score": 3, "why": "thin"})
    t.note("The first round's result, once more, is not the second's.")
    t.give(_result_of(t, first))
    t.succeed("draft", "two")
    t.succeed("evaluate", {"score": 5, "why": "thick"})
    t.note("An operator gives it one more round.")
    t.command("retry")
    t.succeed("draft", "three")
    t.succeed("evaluate", {"score": 9})
    t.succeed("publish")
    return t


@scenario
def a_person_in_a_loop() -> Transcript:
    """A rejection goes round: the next draft gets its reason."""
    steps = {
        "draft": agent("writer", "${{ steps.review }}"),
        "review": approval(
            payload="${{ steps.draft }}",
            needs="draft",
            repeat={
                "from": "draft",
                "until": "steps.review.verdict == 'approved'",
                "limit": 2,
                "on_limit": "continue",
            },
        ),
        "publish": agent("publisher", "${{ steps.review.payload }}", needs="review"),
    }
    t = Transcript("A person in a loop", route(steps))
    t.start()
    t.succeed("draft", {"text": "Hi"})
    t.answer(decision="reject", reason="longer, please")
    t.succeed("draft", {"text": "Hello there"})
    t.answer()
    t.succeed("publish")
    t.start("stubborn", event_id="e2")
    t.succeed("draft", {"text": "Hi"}, key="stubborn")
    t.answer(decision="reject", reason="no", key="stubborn")
    t.succeed("draft", {"text": "Hi!"}, key="stubborn")
    t.answer(decision="reject", reason="still no", key="stubborn")
    return t


@scenario
def waits_for_events() -> Transcript:
    """An event in time, and one that was there before the wait.

    Also one before the start, and one that never comes.
    """
    steps = {
        "order": agent("shop"),
        "paid": {
            "needs": "order",
            "wait": {
                "event": "shop.paid",
                "if": "event.data.amount >= start.data.price",
                "timeout": "1d",
                "on_timeout": "skip",
            },
        },
        "ship": agent("shipper", "${{ steps.paid }}", needs="paid"),
    }
    t = Transcript("Waits for events", route(steps, keep_events="1h"))
    t.start(data={"price": 5})
    t.succeed("order")
    t.offer("shop.paid", data={"amount": 1})
    t.offer("shop.paid", event_id="o2", data={"amount": 5})
    t.offer("shop.paid", event_id="o2", data={"amount": 5})
    t.succeed("ship")
    t.note("The event comes before the step waits for it.")
    t.start("early", event_id="e2", data={"price": 1})
    t.offer("shop.paid", "early", event_id="o3", data={"amount": 2})
    t.succeed("order", key="early")
    t.succeed("ship", key="early")
    t.note("It comes before the workflow.")
    t.offer("shop.paid", "first", event_id="o4", data={"amount": 3})
    t.start("first", event_id="e3", data={"price": 1})
    t.succeed("order", key="first")
    t.note("It never comes.")
    t.start("never", event_id="e4", data={"price": 1})
    t.succeed("order", key="never")
    t.wait("paid", "never")
    t.note("No workflow comes for it.")
    t.offer("shop.paid", "nobody", event_id="o5", data={"amount": 9})
    t.wait(key="nobody")
    return t


@scenario
def waits_for_a_time() -> Transcript:
    steps = {
        "rest": {"wait": "2d"},
        "until": {"wait": {"until": "${{ event.data.due }}"}},
        "past": {"needs": "until", "wait": {"until": "2001-01-01T00:00:00+01:00"}},
        "act": agent(needs=["rest", "past"]),
    }
    t = Transcript("Waits for a time", route(steps))
    t.start(data={"due": "2025-11-23T12:53:30Z"})
    t.wait("until")
    t.wait("rest")
    t.succeed("act")
    t.note("What is not a time is an incident.")
    t.start("odd", event_id="e2", data={"due": "tomorrow"})
    return t


@scenario
def values_events_and_an_early_end() -> Transcript:
    steps = {
        "price": {"value": {"total": "${{ event.data.n * 3 }}"}},
        "tell": {"needs": "price", "emit": {"type": "shop.priced", "data": "${{ steps.price }}"}},
        "slow": agent("slow"),
        "cheap": {
            "needs": "tell",
            "if": "steps.price.total < 10",
            "end": {"status": "completed", "reason": "cheap", "output": "${{ steps.price.total }}"},
        },
        "check": agent("checker", needs="cheap"),
    }
    t = Transcript("Values, events, and an early end", route(steps))
    t.start(data={"n": 2})
    t.start("dear", event_id="e2", data={"n": 20})
    t.succeed("slow", key="dear")
    t.succeed("check", key="dear")
    return t


@scenario
def what_was_done_is_undone() -> Transcript:
    """A booking in three parts: the third fails, and the others are undone, the last first."""
    fatal = {"retry": {"attempts": 1}, "on_exhausted": "fail"}
    steps = {
        "flight": agent("airline", undo=agent("airline-cancel", "${{ steps.flight.id }}")),
        "hotel": agent(
            "hotel", needs="flight", undo=agent("hotel-cancel", "${{ steps.hotel.id }}", retry={"attempts": 1})
        ),
        "car": agent("cars", needs="hotel", undo=agent("cars-cancel", "${{ steps.car }}"), **fatal),
    }
    t = Transcript("What was done is undone", route(steps))
    t.start()
    t.succeed("flight", {"id": "F1"})
    t.succeed("hotel", {"id": "H1"})
    t.fail("car", kind="NoCars")
    t.fail("hotel.undo", kind="Closed")
    t.command("retry")
    t.succeed("hotel.undo")
    t.succeed("flight.undo")
    t.note("Cancelled while a task is out: its agent may have done it, so that too is undone.")
    t.start("cancelled", event_id="e2")
    t.succeed("flight", {"id": "F2"}, key="cancelled")
    t.succeed("hotel", {"id": "H2"}, key="cancelled")
    t.command("cancel", key="cancelled")
    t.succeed("car", "late", key="cancelled")
    t.succeed("car.undo", key="cancelled")
    t.note("A second cancel ends it as it is.")
    t.command("cancel", key="cancelled", reason="enough")
    return t


@scenario
def handed_from_agent_to_agent() -> Transcript:
    steps = {
        "ask": agent(
            "triage",
            {"q": "Where is my money?"},
            handover={"to": ["billing", "tech"], "hops": 2},
            retry={"attempts": 2, "backoff": "1s"},
        )
    }
    t = Transcript("Handed from agent to agent", route(steps))
    t.start()
    t.hand_over("ask", "billing", {"q": "refund?"})
    t.fail("ask")
    t.wait("ask")
    t.hand_over("ask", "tech", {"q": "broken?"})
    t.hand_over("ask", "billing")
    t.command("retry")
    t.succeed("ask", "here it is")
    t.note("Nobody may hand over to whom the route does not name.")
    t.start("astray", event_id="e2")
    t.hand_over("ask", "stranger", key="astray")
    t.command("skip", key="astray")
    return t


@scenario
def a_budget_that_runs_out() -> Transcript:
    """Reserved before each task, settled by its usage.

    A person grants more, and in the end refuses.
    """
    steps = {
        "read": agent("reader", for_each="${{ event.data.pages }}", reserve={"tokens": 400}),
        "write": agent("writer", needs="read", reserve={"tokens": 500}),
    }
    budget = {"tokens": 1000, "hops": 10, "time": "1h", "on_exhausted": "ask", "role": "maintainer", "deadline": "1d"}
    t = Transcript("A budget that runs out", route(steps, budget=budget))
    t.start(data={"pages": ["a", "b", "c"]})
    t.succeed("read[0]", usage={"tokens": 300})
    t.succeed("read[1]", usage={"input_tokens": 150, "output_tokens": 50})
    t.note("What was not taken is there for the page that was held. What a failure does not tell counts as taken.")
    t.fail("read[2]")
    t.wait("read[2]")
    t.answer("read.budget", payload={"tokens": 1000}, reason="it is worth it")
    t.succeed("read[2]", usage={"tokens": 350})
    t.note("The hour is over before the writer has answered.")
    t.wait_budget()
    t.answer("write.budget", "reject", reason="enough")
    return t


@scenario
def a_workflow_that_calls_others() -> Transcript:
    steps = {
        "translate": calling("translation", {"text": "${{ event.data.text }}"}, timeout="1h"),
        "publish": agent("publisher", "${{ steps.translate }}", needs="translate"),
    }
    sub = called_route(
        {"work": agent("translator", "${{ event.data.text }}", on_exhausted="fail", retry={"attempts": 1})},
        "translation",
        output="${{ steps.work }}",
    )
    t = Transcript("A workflow that calls another", route(steps), sub)
    t.start(data={"text": "Hello"})
    called = f"translation:{t.task_id('translate')}"
    t.pass_on()
    t.now_ms += 5_000
    t.note("The called workflow fails; an operator calls again.")
    t.fail("work", key=called)
    t.pass_on()
    t.command("retry")
    t.pass_on()
    t.note("It takes too long. It is taken back; but it had completed by then, and that counts.")
    t.now_ms += 3_599_000
    t.succeed("work", "Hallo", key=f"{called}/2")
    late = t.crossing()
    t.wait("translate")
    taken_back = t.crossing()
    for one in (*taken_back, *late):
        t.give(one)
    t.succeed("publish")
    return t


@scenario
def a_budget_that_ends_the_workflow() -> Transcript:
    steps = {
        "read": agent("reader", reserve={"usd": 0.6}),
        "write": agent("writer", needs="read", reserve={"usd": 0.6}, retry={"attempts": 2, "backoff": "1s"}),
    }
    t = Transcript("A budget that ends the workflow", route(steps, budget={"usd": 1, "hops": 2}))
    t.start()
    t.succeed("read", usage={"usd": 0.1})
    t.wait("write")
    t.note("What was not heard of counts as spent.")
    t.wait("write")
    return t


@scenario
def a_slice_of_the_budget() -> Transcript:
    sub = called_route(
        {
            "read": agent("reader", "${{ event.data }}", reserve={"tokens": 400}),
            "sum": agent("writer", "${{ steps.read }}", needs="read", reserve={"tokens": 300}),
        },
        "study",
        budget={"tokens": 5_000, "on_exhausted": "ask", "role": "maintainer"},
        output="${{ steps.sum }}",
    )
    steps = {
        "far": calling("study", "far", reserve={"tokens": 600}),
        "near": calling("study", "near", reserve={"tokens": 600}),
        "report": agent("writer", needs=["far", "near"]),
    }
    t = Transcript("A slice of the budget", route(steps, budget={"tokens": 1_100, "usd": 1, "hops": 1}), sub)
    t.start()
    far = f"study:{t.task_id('far')}"
    t.deliver()
    t.note("The called workflow has the smaller of its own budget and the slice. A person lets it spend more.")
    t.succeed("read", usage={"tokens": 350, "usd": 0.2}, key=far)
    t.answer("sum.budget", payload={"tokens": 100}, key=far)
    t.succeed("sum", "far off", usage={"tokens": 270, "usd": 0.1}, key=far)
    t.note("What it has taken is charged to its caller, all of it. What is left is not enough for the other.")
    t.deliver()
    return t


@scenario
def calls_that_nobody_waits_for() -> Transcript:
    sub = called_route({"work": agent("worker", "${{ event.data }}", reserve={"tokens": 50})})
    steps = {
        "slow": calling(reserve={"tokens": 80}),
        "quick": agent("asker"),
        "next": agent("writer", needs={"first_of": ["slow", "quick"]}, reserve={"tokens": 80}),
    }
    t = Transcript("Calls that nobody waits for any more", route(steps, budget={"tokens": 140}), sub)
    t.start(data=1)
    t.deliver()
    t.note(
        "The call is taken back. What was reserved for it stays so until its workflow has ended, and says what it has taken."
    )
    t.succeed("quick", usage={"tokens": 10})
    t.deliver()
    t.succeed("next", usage={"tokens": 70})
    return t


@scenario
def a_call_for_each_item() -> Transcript:
    sub = called_route(
        {"book": agent("booker", "${{ event.data }}", on_exhausted="fail", retry={"attempts": 1})},
        "stay",
        output="${{ steps.book }}",
    )
    each = {"items": "${{ event.data }}", "concurrency": 2, "tolerate": 1}
    steps = {
        "stays": calling("stay", "${{ item }}", for_each=each, undo=agent("canceller", "${{ steps.stays }}")),
        "pay": agent("payer", "${{ steps.stays }}", needs="stays", undo=agent("refunder")),
        "tell": agent("teller", needs="pay", on_exhausted="fail"),
    }
    t = Transcript("A call for each item", route(steps), sub)
    t.start(data=["rome", "oslo", "bonn"])
    place = f"stay:r:k/{t.workflow().run_id}/stays"
    t.deliver()
    t.fail("book", key=f"{place}[1]")
    t.deliver()
    t.succeed("book", "room 7", key=f"{place}[2]")
    t.deliver()
    t.succeed("book", "room 1", key=f"{place}[0]")
    t.deliver()
    t.succeed("pay", "paid")
    t.note(
        "The last step fails, so what was done is undone, the calls by what they gave. An operator leaves the refund as it is."
    )
    t.fail("tell", retryable=False)
    t.fail("pay.undo", retryable=False)
    t.command("fail", reason="refunded by hand")
    t.succeed("stays.undo")
    return t


@scenario
def calls_taken_back() -> Transcript:
    sub = called_route({"work": agent("worker", "${{ event.data }}")})
    t = Transcript("The end of a workflow takes its calls back", route({"a": calling(), "b": agent()}), sub)
    t.start(data=1)
    t.pass_on()
    t.command("cancel", reason="a mistake")
    t.pass_on()
    return t


@scenario
def a_capability_and_who_has_it() -> Transcript:
    steps = {
        "translate": {
            "capability": "translate",
            "input": {"text": "${{ event.data.text }}", "to": "de"},
            "retry": {"attempts": 2, "backoff": "1s", "jitter": 0},
        },
        "print": agent("printer", "${{ steps.translate.text }}", needs="translate"),
    }
    both = Directory(registered={"translate": ("deepl", "llm")}, alive=frozenset({"llm"}))
    t = Transcript("A capability, and who has it", route(steps), directory=Directory())
    t.note("Nobody is registered for it yet.")
    t.start(data={"text": "Hello"})
    t.note("Two are, one of them alive.")
    t.directory = both
    t.command("retry")
    t.note("A retry stays with its agent, though the other is alive now; an operator's retry chooses again.")
    t.directory = msgspec.structs.replace(both, alive=frozenset({"deepl", "llm"}))
    t.fail("translate", kind="quota")
    t.wait("translate")
    t.fail("translate", kind="quota")
    t.command("retry")
    t.succeed("translate", {"text": "Hallo"})
    t.note("Of two that are scaled to zero one is still chosen, and its task waits for it.")
    t.directory = msgspec.structs.replace(both, alive=frozenset())
    t.start("later", event_id="e2", data={"text": "Bye"})
    t.succeed("translate", {"text": "Tschüss"}, key="later")
    return t


@scenario
def starts_by_a_schedule() -> Transcript:
    """On the clocks of Berlin; what was missed fires once.

    Of two definitions the newer holds.
    """
    steps = {"report": agent("reporter", "${{ event.data }}")}
    mornings = scheduled(steps, "0 9 * * 1-5", "Europe/Berlin")
    evenings = scheduled(steps, "0 18 * * 1-5", "Europe/Berlin")
    t = Transcript("A route that starts by a schedule", mornings, evenings)
    t.set_schedule()
    first = t.now_ms
    t.note("Another router, or the same at its next start, tells the same.")
    t.set_schedule(since_ms=first, by="router-two")
    t.fire()
    t.pass_on()
    t.note("Nobody is there for a week: the last time fires, late.")
    t.fire(late_ms=7 * 86_400_000 + 5_000)
    t.pass_on()
    t.note("A new definition; a router that still has the old file does not bring it back.")
    t.set_schedule(digest=evenings.digest)
    t.set_schedule(since_ms=first, by="router-two")
    t.fire()
    t.pass_on()
    t.command("cancel", key="mesh.schedule:r", reason="no more reports")
    return t


_PAYMENT: dict[str, Any] = {
    "charge": agent("psp", "${{ event.data }}", alias="${{ steps.charge.payment_id }}"),
    "settled": {
        "needs": "charge",
        "wait": {"event": "com.psp.settled", "alias": "charge", "key": "${{ event.data.payment_id }}"},
    },
}


@scenario
def found_by_an_alias() -> Transcript:
    """An event that knows the payment alone finds the workflow, though it comes first."""
    t = Transcript("Found by an alias", route(_PAYMENT, keep_events="1h"))
    t.start(data={"amount": 3})
    t.offer_by_alias("com.psp.settled", "charge", "p-1", data={"payment_id": "p-1"})
    t.offer_by_alias("com.psp.settled", "charge", "p-9", event_id="o9", data={"payment_id": "p-9"})
    t.succeed("charge", {"payment_id": "p-1"})
    t.pass_on()
    t.note("Nobody has the other payment.")
    t.wait(key="mesh.alias:r.charge/p-9")
    return t


@scenario
def an_alias_that_two_want() -> Transcript:
    """The first keeps it.

    The other's step is an incident that names the first; an operator retries once that has ended.
    """
    t = Transcript("An alias that two workflows want", route(_PAYMENT))
    for key in ("one", "two"):
        t.start(key, event_id=key)
        t.succeed("charge", {"payment_id": "p-1"}, key=key)
        t.pass_on()
    t.offer_by_alias("com.psp.settled", "charge", "p-1", data={"payment_id": "p-1"})
    t.pass_on()
    t.command("retry", key="two")
    t.pass_on()
    t.note("Its end gives the alias back.")
    t.command("cancel", key="two")
    t.pass_on()
    return t


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_transcript_reads_as_it_did(name: str, regen: bool) -> None:
    transcript = SCENARIOS[name]()
    text, path = transcript.text(), FOLDER / f"{name}.txt"
    if regen:
        path.write_text(text)
    assert text == path.read_text(), f"{path} differs: `pytest {__file__} --regen` rewrites it; review its diff"


@scenario
def over_to_another_version() -> Transcript:
    """What a workflow has done must fit the version that it goes over to.

    What is to come may differ.
    """
    draft = agent("drafter", "${{ event.data }}")
    review = approval(ask="Post it?", payload="${{ steps.draft }}", needs="draft")
    publish = agent("publisher", "${{ steps.review.payload }}", needs="review")
    before = route({"draft": draft, "review": review, "publish": publish})
    renamed = route(
        {
            "draft": draft,
            "approve": review,
            "publish": agent("publisher", "${{ steps.approve.payload }}", needs="approve"),
        }
    )
    another = route({"draft": agent("writer", "${{ event.data }}"), "review": review, "publish": publish})
    checked = route(
        {
            "draft": draft,
            "review": review,
            "check": agent("checker", "${{ steps.draft }}", needs="draft"),
            "publish": {**publish, "needs": ["review", "check"]},
        }
    )
    t = Transcript("A workflow that waits goes over to another version", before, renamed, another, checked)
    t.start(data={"title": "It crashes"})
    t.succeed("draft", {"text": "Thanks!"})
    t.note(
        "It waits for a person. Two versions don't fit what it has done; a fourth has one step more, which can begin at once."
    )
    t.migrate(renamed)
    t.migrate(another)
    t.migrate(checked)
    t.migrate(checked)
    t.note("The question stays as it was asked.")
    t.answer()
    t.take_over("two")
    t.succeed("check", True)
    t.succeed("publish")
    t.migrate(before)
    return t


@scenario
def over_to_a_version_that_fixes_it() -> Transcript:
    """A step that is stuck on its own expression has not begun.

    It begins under the new version.
    """
    broken = route({"a": agent(), "b": agent("y", {"n": "${{ steps.a.nmber }}"}, needs="a")})
    fixed = route({"a": agent(), "b": agent("y", {"n": "${{ steps.a.number }}"}, needs="a")})
    t = Transcript("A misspelt path, and the version that fixes it", broken, fixed)
    t.start()
    t.succeed("a", {"number": 7})
    t.migrate(fixed)
    t.succeed("b", 14)
    return t


def test_every_transcript_has_its_scenario() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(SCENARIOS)
