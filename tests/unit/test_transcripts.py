"""Golden transcripts: one scenario a file in tests/transcripts, to be read as a conversation. `pytest --regen` writes them anew; review the diff."""

from collections.abc import Callable
from pathlib import Path

import pytest
from one_partition import agent, approval, route
from transcript import Transcript

from mesh.core.canonical import digest
from mesh.core.inputs import ResultReceived, TaskUndeliverable, Undeliverable

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
    """What is skipped satisfies those who need it; a skipped question passes its payload through."""
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
    t.note("It is an incident now, and nothing goes on. The agent is mended.")
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
    t.note("An operator has it asked anew.")
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
    t = Transcript("A missing path, a condition that is no bool, and an output that can't be made", route(steps))
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


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_transcript_reads_as_it_did(name: str, regen: bool) -> None:
    transcript = SCENARIOS[name]()
    text, path = transcript.text(), FOLDER / f"{name}.txt"
    if regen:
        path.write_text(text)
    assert text == path.read_text(), f"{path} differs: `pytest {__file__} --regen` writes it anew; review its diff"


def test_every_transcript_has_its_scenario() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(SCENARIOS)
