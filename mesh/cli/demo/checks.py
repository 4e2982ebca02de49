"""Whether everything in a run of the demo ended as the manifest says it must.

Owns the judgement of the log's decisions, the dead letters and the outbox. It must not look at what
was on the screen. If a person answered otherwise than the script would, their answer says what the
right end is. `command` calls it.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mesh.cli.approvals.commands import UNEDITED, Answer
from mesh.cli.demo.conductor import Ended
from mesh.cli.demo.script import Delivery, Script
from mesh.cli.demo.view import Watcher
from mesh.cli.text.format import counted
from mesh.core.events import (
    ApprovalClosed,
    Event,
    StartRepeated,
    TaskDispatched,
    TaskFailed,
    TaskSucceeded,
    WorkflowStarted,
)
from mesh.inspection.read_model import queries


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check. `what` states the fact, and `problem` what is wrong if it does not hold."""

    what: str
    problem: str = ""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What the checks look at.

    `events`: the log's events by workflow, in order. `outbox`: its entries. `dead_letters`: the
    deliveries whose bytes are in the dead letters unchanged.
    """

    ends: Mapping[str, str]
    answers: Mapping[str, Answer]
    refused: int
    events: Mapping[str, Sequence[Event]]
    outbox: Sequence[dict[str, Any]]
    dead_letters: frozenset[str]


async def gather(script: Script, watcher: Watcher, ended: Ended, outbox: Path) -> Evidence:
    """Gather everything that the checks look at."""
    events = {
        one.workflow: [
            event for entry in queries.decisions_of(watcher.model.db, one.workflow) for event in entry.decision.events
        ]
        for one in script.workflows
    }
    raw = [one for one in script.deliveries if one.end == "dead_letter"]
    return Evidence(
        ends={one.name: ended.view.end_of(one) for one in script.deliveries},
        answers=ended.answers,
        refused=len(ended.refused),
        events=events,
        outbox=_lines(outbox),
        dead_letters=frozenset([one.name for one in raw if await watcher.dead_letter_of(one)]),
    )


def _lines(outbox: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in outbox.read_bytes().splitlines()] if outbox.exists() else []


def wanted_end(delivery: Delivery, answers: Mapping[str, Answer]) -> str:
    answer = answers.get(delivery.workflow)
    if not delivery.starts or answer is None:
        return delivery.end
    return "rejected" if answer.decision == "reject" else "completed"


def check(script: Script, evidence: Evidence) -> list[Check]:
    """Run all checks, in order. All is well if none has a `problem`."""
    return [
        _ends(script, evidence),
        _asked(script, evidence),
        _verdicts(script, evidence),
        _retry(script, evidence),
        _repeated(script, evidence),
        _dead_letters(script, evidence),
        _outbox(script, evidence),
    ]


def _check(what: str, problems: Sequence[str]) -> Check:
    return Check(what=what, problem="; ".join(problems))


def _ends(script: Script, evidence: Evidence) -> Check:
    problems = []
    for one in script.deliveries:
        wanted, found = wanted_end(one, evidence.answers), evidence.ends.get(one.name, "")
        if found != wanted:
            problems.append(f"{one.short} ({one.name}) is {found or 'without an end'}, and should be {wanted}")
    workflows = counted(len(script.workflows), "workflow")
    return _check(f"{counted(len(script.deliveries), 'event')}, {workflows}: each came to its right end", problems)


def _asked(script: Script, evidence: Evidence) -> Check:
    wanted = {one.short for one in script.workflows if one.review != "skipped"}
    found = {one.short for one in script.workflows if one.workflow in evidence.answers}
    problems = [f"{name}: nobody was asked" for name in sorted(wanted - found)]
    problems += [f"{name}: somebody was asked, and should not be" for name in sorted(found - wanted)]
    return _check(f"a person was asked {counted(len(wanted), 'time')}, where the route wants it", problems)


def _verdicts(script: Script, evidence: Evidence) -> Check:
    problems = [f"{counted(evidence.refused, 'answer')} refused"] if evidence.refused else []
    for one in script.workflows:
        answer = evidence.answers.get(one.workflow)
        closed = [event for event in evidence.events[one.workflow] if isinstance(event, ApprovalClosed)]
        verdicts = [(event.verdict, event.by, event.reason, event.edited) for event in closed]
        if answer is None:
            wanted = []
        else:
            verdict = "approved" if answer.decision == "approve" else "rejected"
            wanted = [(verdict, script.approver, answer.reason, answer.payload is not UNEDITED)]
        if verdicts != wanted:
            problems.append(f"{one.short}: the log has {verdicts}, the answer was {wanted}")
    return _check("each answer is in the log as the only verdict on its question", problems)


def _retry(script: Script, evidence: Evidence) -> Check:
    agent, delivery = script.faulty
    events = evidence.events[delivery.workflow]
    dispatched = [event for event in events if isinstance(event, TaskDispatched) and event.agent == agent]
    steps = {event.step for event in dispatched}
    failed = [event.attempt for event in events if isinstance(event, TaskFailed) and event.step in steps]
    succeeded = [event.attempt for event in events if isinstance(event, TaskSucceeded) and event.step in steps]
    found = ([event.attempt for event in dispatched], failed, succeeded)
    problems = [] if found == ([1, 2], [1], [2]) else [f"attempts dispatched, failed, succeeded: {found}"]
    return _check(f"the {agent} failed once, at {delivery.short}; the second attempt succeeded", problems)


def _repeated(script: Script, evidence: Evidence) -> Check:
    problems = []
    for one in script.deliveries:
        if one.end != "repeated":
            continue
        events = evidence.events[one.workflow]
        starts = sum(isinstance(event, WorkflowStarted) for event in events)
        repeats = sum(isinstance(event, StartRepeated) for event in events)
        if (starts, repeats) != (1, 1):
            problems.append(f"{one.short}: {counted(starts, 'start')}, {counted(repeats, 'repeated start')}")
    return _check("the event that was delivered twice started one workflow", problems)


def _dead_letters(script: Script, evidence: Evidence) -> Check:
    wanted = [one for one in script.deliveries if one.end == "dead_letter"]
    problems = [
        f"{one.file} is not there, or not as it came" for one in wanted if one.name not in evidence.dead_letters
    ]
    return _check("the event that can't be read is a dead letter, byte for byte as it came", problems)


def _outbox(script: Script, evidence: Evidence) -> Check:
    completed = {
        (one.repository, one.issue["number"]): one for one in script.workflows if evidence.ends[one.name] == "completed"
    }
    posted = Counter((entry["repository"], entry["number"]) for entry in evidence.outbox)
    problems = [f"{one.short}: posted {posted[place]} times" for place, one in completed.items() if posted[place] != 1]
    problems += [f"{name}#{number} was posted" for name, number in posted if (name, number) not in completed]
    for entry in evidence.outbox:
        delivery = completed.get((entry["repository"], entry["number"]))
        answer = evidence.answers.get(delivery.workflow) if delivery else None
        if delivery is None or answer is None or answer.payload is UNEDITED:
            continue
        if {name: entry.get(name) for name in answer.payload} != answer.payload:
            problems.append(f"{delivery.short}: the posted text is not the edited one")
    return _check(f"{len(completed)} replies are in the outbox, each once", problems)
