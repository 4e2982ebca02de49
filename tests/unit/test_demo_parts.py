"""The demo's judgement finds what is wrong, and its screen shows what happens on any terminal."""

from io import StringIO
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console, Group

from mesh.cli.approvals.commands import Answer
from mesh.cli.demo.checks import Evidence, check
from mesh.cli.demo.news import sent
from mesh.cli.demo.screen import Screen, standing
from mesh.cli.demo.script import Delivery, load_script
from mesh.cli.demo.view import View
from mesh.core.events import (
    ApprovalClosed,
    Event,
    StartRepeated,
    TaskDispatched,
    TaskFailed,
    TaskSucceeded,
    WorkflowStarted,
)
from mesh.core.state import StepState, Workflow

SCRIPT = load_script()
FAULTY = SCRIPT.faulty[1]
EDITED = next(one for one in SCRIPT.workflows if one.review == "edit")
STEPS = ("classify", "duplicates", "draft", "review", "publish")


def answer(one: Delivery) -> Answer:
    payload = one.edit or msgspec.UNSET
    return Answer(decision="reject" if one.review == "reject" else "approve", payload=payload, reason=one.reason)


ANSWERS = {one.workflow: answer(one) for one in SCRIPT.workflows if one.review != "skipped"}


def events_of(one: Delivery) -> list[Event]:
    started = WorkflowStarted(route="r", digest="d", run_id="1", key="k", cloud_event={}, trace_id="0" * 32)
    return [started, *attempts(2 if one is FAULTY else 1), *verdicts(one)]


def attempts(count: int) -> list[Event]:
    events: list[Event] = []
    for n in range(1, count + 1):
        events.append(
            TaskDispatched(
                step="classify",
                task_id="t",
                attempt=n,
                agent="classifier",
                input=None,
                due_at_ms=0,
                traceparent="",
                reason="",
            )
        )
        if n < count:
            events.append(
                TaskFailed(step="classify", task_id="t", attempt=n, kind="DemoFault", message="", retryable=True)
            )
    return [*events, TaskSucceeded(step="classify", task_id="t", attempt=count, output=None)]


def verdicts(one: Delivery) -> list[Event]:
    given = ANSWERS.get(one.workflow)
    if given is None:
        return []
    verdict = "rejected" if given.decision == "reject" else "approved"
    closed = {"step": "review", "approval_id": "a", "verdict": verdict, "payload": None, "by": SCRIPT.approver}
    return [
        msgspec.convert(
            {"event": "ApprovalClosed.1", **closed, "reason": one.reason, "edited": bool(one.edit)}, ApprovalClosed
        )
    ]


def evidence(**changes: Any) -> Evidence:
    events = {one.workflow: events_of(one) for one in SCRIPT.workflows}
    for one in SCRIPT.deliveries:
        if one.end == "repeated":
            events[one.workflow].append(StartRepeated(event_source="s", event_id="e", reason=""))
    posted = [one for one in SCRIPT.workflows if one.end == "completed"]
    good = Evidence(
        ends={one.name: one.end for one in SCRIPT.deliveries},
        answers=ANSWERS,
        refused=0,
        events=events,
        outbox=[entry(one) for one in posted],
        dead_letters=frozenset(one.name for one in SCRIPT.deliveries if one.end == "dead_letter"),
    )
    return msgspec.structs.replace(good, **changes)


def entry(one: Delivery) -> dict[str, Any]:
    return {"repository": one.repository, "number": one.issue["number"], "body": "asked", "labels": [], **one.edit}


def problems(found: Evidence) -> list[str]:
    return [one.problem for one in check(SCRIPT, found) if one.problem]


def test_a_right_run_has_no_problem() -> None:
    assert problems(evidence()) == []


def test_a_persons_other_answer_is_the_right_end() -> None:
    other = {**ANSWERS, FAULTY.workflow: Answer(decision="reject", reason=FAULTY.reason)}
    good = evidence()
    closed = msgspec.structs.replace(verdicts(FAULTY)[0], verdict="rejected")
    changed = evidence(
        ends={**good.ends, FAULTY.name: "rejected"},
        answers=other,
        events={**good.events, FAULTY.workflow: [*good.events[FAULTY.workflow][:-1], closed]},
        outbox=[one for one in good.outbox if one["number"] != FAULTY.issue["number"]],
    )
    assert problems(changed) == []


GOOD = evidence()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ends": {**GOOD.ends, "docs-typo": "failed"}}, "ferry#416 (docs-typo) is failed, and should be completed"),
        ({"ends": {**GOOD.ends, "docs-typo": ""}}, "without an end"),
        ({"answers": {k: v for k, v in ANSWERS.items() if k != EDITED.workflow}}, "ferry#421: nobody was asked"),
        ({"refused": 1}, "1 answer refused"),
        ({"events": {**GOOD.events, EDITED.workflow: GOOD.events[EDITED.workflow][:-1]}}, "ferry#421: the log has []"),
        (
            {"events": {**GOOD.events, FAULTY.workflow: events_of(EDITED)}},
            "attempts dispatched, failed, succeeded: ([1], [], [1])",
        ),
        (
            {"events": {**GOOD.events, SCRIPT.workflows[0].workflow: events_of(SCRIPT.workflows[0]) * 2}},
            "ferry#412: 2 starts",
        ),
        ({"dead_letters": frozenset()}, "15-malformed.json is not there"),
        ({"outbox": GOOD.outbox[1:]}, "ferry#412: posted 0 times"),
        ({"outbox": [*GOOD.outbox, GOOD.outbox[0]]}, "ferry#412: posted 2 times"),
        ({"outbox": [{**one, "body": "?"} for one in GOOD.outbox]}, "ferry#421: the posted text is not the edited one"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], words: str) -> None:
    assert any(words in problem for problem in problems(evidence(**changes)))


def view(*, ended: bool) -> View:
    steps = {name: StepState(status="asking" if name == "review" else "succeeded") for name in STEPS}
    workflow = Workflow(
        workflow_id="w",
        run_id="1",
        route="r",
        digest="d",
        key="k",
        status="completed" if ended else "running",
        started_at_ms=0,
        updated_at_ms=0,
        cloud_event={},
        trace_id="",
        steps=steps,
    )
    names = ("classifier", "drafter", "duplicate-finder", "publisher")
    return View(
        workflows={one.workflow: workflow for one in SCRIPT.workflows},
        waiting=(),
        agents=dict.fromkeys(names, True),
        partitions=16,
        fates={one.name: "started" for one in SCRIPT.workflows},
        sent=tuple(one.name for one in SCRIPT.deliveries),
        decisions=(),
    )


@pytest.mark.parametrize("width", [40, 80, 200])
def test_how_it_stands_is_one_line_of_any_terminal(width: int) -> None:
    console = Console(file=StringIO(), width=width, height=24, force_terminal=False)
    with console.capture() as captured:
        console.print(Group(standing(view(ended=False), SCRIPT)))
    (line,) = captured.get().splitlines()
    assert cell_len(line) <= width
    assert "16 of 16 events sent" in line


def test_what_happens_is_told_once_and_nothing_to_a_program() -> None:
    news = [sent(one) for one in SCRIPT.deliveries]
    out = StringIO()
    Screen(Console(file=out, width=200), SCRIPT).show(view(ended=False), news)
    assert len(out.getvalue().splitlines()) == len(news)
    silent = Screen(None, SCRIPT)
    silent.show(view(ended=False), news)
    silent.say("nothing")
    assert not silent.is_watched


def test_an_event_has_ended_when_its_workflow_has() -> None:
    first = SCRIPT.workflows[0]
    assert (view(ended=False).end_of(first), view(ended=True).end_of(first)) == ("", "completed")
    assert view(ended=False).is_quiet(first)
