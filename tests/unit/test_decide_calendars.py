"""Decide: instants of an approval by working hours, and stages that leave nobody who can answer."""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import START_MS, names, only
from voting_kit import CROWD, asked, code, excluding

from mesh.core.calendars import Calendar, CalendarUnread, WorkingDay
from mesh.core.effects import AskApproval
from mesh.core.events import ApprovalRequested2, IncidentRaised, WorkflowStarted
from mesh.core.inputs import TimerDue
from mesh.core.state import Directory
from mesh.inspection.what_if import Run, rehearse

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def calendar(days: int = 5, digest: str = "sha256:1", first_ms: int = START_MS) -> Calendar:
    """Every day the two hours that begin an hour after `first_ms`, and each day after it."""
    starts = [first_ms + n * DAY_MS for n in range(days)]
    return Calendar(
        name="berlin",
        zone="UTC",
        from_ms=first_ms,
        until_ms=first_ms + days * DAY_MS,
        days=tuple(WorkingDay(begins_ms=start, hours=((start + HOUR_MS, start + 3 * HOUR_MS),)) for start in starts),
        digest=digest,
    )


def by(found: Calendar) -> Directory:
    return replace(CROWD, calendars={"berlin": found})


def hours(amount: str) -> dict[str, Any]:
    return {"working": amount, "calendar": "berlin"}


def days(number: int) -> dict[str, Any]:
    return {"working_days": number, "calendar": "berlin"}


def question(p: Any) -> ApprovalRequested2:
    return only(p.decisions[-1].events, ApprovalRequested2)


def test_the_deadline_and_the_stages_are_instants_with_the_calendars_digest() -> None:
    stages = [{"after": hours("1h"), "to": "legal"}, {"after": days(1), "to": "clerk", "quorum": 1}]
    p = asked(directory=by(calendar()), deadline=hours("5h"), escalate=stages)
    found = question(p)
    assert found.deadline_at_ms == START_MS + 2 * DAY_MS + 2 * HOUR_MS
    assert [stage.at_ms - START_MS for stage in found.terms.stages] == [2 * HOUR_MS, DAY_MS + 3 * HOUR_MS]
    assert found.calendars == {"berlin": "sha256:1"}
    assert only(p.effects(), AskApproval).deadline_at_ms == found.deadline_at_ms
    p.check_replay()


def test_a_plain_stage_may_follow_a_working_one() -> None:
    stages = [{"after": days(1), "to": "legal"}, {"after": "30m", "to": "clerk"}]
    found = question(asked(directory=by(calendar()), escalate=stages))
    assert [stage.at_ms - START_MS for stage in found.terms.stages] == [
        DAY_MS + 3 * HOUR_MS,
        DAY_MS + 3 * HOUR_MS + HOUR_MS // 2,
    ]


def test_an_approval_without_working_hours_names_no_calendar() -> None:
    assert question(asked(directory=by(calendar()), deadline="1h")).calendars == {}


@pytest.mark.parametrize(
    ("directory", "said"),
    [
        (CROWD, "no calendar berlin is in effect"),
        (by(calendar(1)), "ends at .*, before 5 working hours are over: `mesh calendars apply FILE`"),
    ],
)
@pytest.mark.parametrize("terms", [{"deadline": hours("5h")}, {"escalate": [{"after": hours("5h"), "to": "legal"}]}])
def test_a_calendar_that_does_not_say_is_an_incident_and_retry_asks_again(
    directory: Directory, said: str, terms: dict[str, Any]
) -> None:
    p = asked(directory=directory, **terms)
    incident = only(p.decisions[-1].events, IncidentRaised)
    assert incident.kind == "calendar"
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(incident.message)
    p.directory = by(calendar(9, "sha256:2"))
    p.command("retry")
    assert question(p).calendars == {"berlin": "sha256:2"}
    p.check_replay()


def test_an_open_approval_keeps_its_instants_whatever_calendar_comes() -> None:
    p = asked(directory=by(calendar()), quorum=2, deadline=hours("2h"))
    due = question(p).deadline_at_ms
    p.directory = by(calendar(1, "sha256:2"))
    assert code(p, "ben") == "counted"
    assert p.step("review").due_at_ms == due


def test_what_nobody_has_looked_up_is_not_decided() -> None:
    with pytest.raises(CalendarUnread):
        asked(directory=replace(CROWD, calendars=None), deadline=hours("1h"))
    assert question(asked(directory=replace(CROWD, calendars=None), deadline="1h")).calendars == {}


# Nobody can answer when a stage comes -------------------------------------------------------------


def reach(p: Any, after_ms: int = HOUR_MS) -> tuple[Any, ...]:
    """Fire the timer of the stage that comes `after_ms` after the question."""
    due = START_MS + after_ms
    p.now_ms = max(p.now_ms, due)
    timer = TimerDue(due_at_ms=due, workflow_id="r:k", kind="approval_stage", step="review", run_id=p.workflow().run_id)
    return tuple(p.give(timer))


def stage(**more: Any) -> dict[str, Any]:
    return {"after": "1h", "to": "clerk", **more}


def test_a_stage_that_leaves_too_few_people_is_an_incident() -> None:
    p = asked(quorum=2, escalate=[stage(replace=True)])
    assert names(reach(p)) == ["ApprovalEscalated", "IncidentRaised"]
    incident = only(p.decisions[-1].events, IncidentRaised)
    assert (incident.kind, incident.message) == (
        "nobody",
        "it was escalated to clerk: 2 of manager must answer, and 1 could",
    )
    assert incident.approval_id
    assert code(p, "dan") == "closed"
    p.command("retry")
    assert question(p).approval_id == incident.approval_id


@pytest.mark.parametrize(
    ("quorum", "of_stage"),
    [
        (2, {}),  # the managers may still answer
        (1, {"replace": True}),  # one clerk is enough
        (2, {"replace": True, "quorum": 1}),  # ... or fills the quorum of the stage
    ],
)
def test_a_stage_that_leaves_enough_people_goes_on(quorum: int, of_stage: dict[str, Any]) -> None:
    p = asked(quorum=quorum, escalate=[stage(**of_stage)])
    assert names(reach(p)) == ["ApprovalEscalated"]


def test_who_has_voted_keeps_the_seat_when_a_stage_takes_the_others_right() -> None:
    p = asked(quorum=2, escalate=[stage(replace=True)])
    assert code(p, "ben") == "counted"
    assert names(reach(p)) == ["ApprovalEscalated"]
    p.now_ms += 1
    assert code(p, "dan") == "accepted"


def test_excluded_people_and_editors_fill_no_seat_of_a_stage() -> None:
    p = asked(quorum=1, escalate=[stage(replace=True)], **excluding({"not": {"people": "dan"}}))
    reach(p)
    assert only(p.decisions[-1].events, IncidentRaised).message.endswith(
        "1 of manager must answer, and 0 could, without dan"
    )
    other = asked(quorum=1, edit={"role": "clerk"}, escalate=[stage(replace=True)], **excluding({"not": "editors"}))
    other.vote("dan", "edit", payload={"n": 2})
    reach(other)
    assert only(other.decisions[-1].events, IncidentRaised).kind == "nobody"


def test_groups_that_only_the_same_person_could_fill_can_not_be_filled() -> None:
    groups = [{"role": "manager"}, {"role": "legal"}]
    p = asked(role=None, quorum=groups, escalate=[{"after": "1h", "to": {"people": ["ana"]}, "replace": True}])
    reach(p)
    assert only(p.decisions[-1].events, IncidentRaised).message == (
        "it was escalated to ana: 1 of manager, 1 of legal: 1 people voted or could, and no way to seat them fills all"
        " seats"
    )


@pytest.mark.parametrize("more", [{"on_nobody": "wait"}, {"directory": replace(CROWD, knows_all_roles=False)}])
def test_it_stays_open_where_the_route_waits_or_nobody_knows_all_roles(more: dict[str, Any]) -> None:
    p = asked(quorum=2, escalate=[stage(replace=True)], **more)
    assert names(reach(p)) == ["ApprovalEscalated"]
    assert p.step("review").status == "asking"


def test_the_timer_looks_too_where_an_answer_has_brought_the_stage_about() -> None:
    p = asked(quorum=2, escalate=[stage(replace=True)])
    p.now_ms += HOUR_MS + 1
    assert code(p, "dan") == "counted"
    # an answer from before the stage may still be unread then
    assert p.step("review").status == "asking"
    assert names(reach(p)) == ["IncidentRaised"]


def test_a_timer_of_an_approval_that_is_closed_looks_at_nobody() -> None:
    p = asked(escalate=[stage(replace=True)])
    assert code(p, "ben") == "accepted"
    assert reach(p) == ()


def test_held_answers_are_refused_when_a_stage_finds_nobody() -> None:
    p = asked(quorum=2, deadline="2h", escalate=[stage(replace=True)])
    p.now_ms += 2 * HOUR_MS + 1
    p.vote("ben")
    assert names(p.decisions[-1].events) == ["AnswerHeld"]
    assert names(reach(p)) == ["ApprovalEscalated", "IncidentRaised", "AnswerRefused2"]
    p.check_replay()


# Replaying ----------------------------------------------------------------------------------------


def test_a_recorded_run_is_rehearsed_by_the_calendars_of_its_time() -> None:
    p = asked(directory=by(calendar()), deadline=hours("2h"))
    assert code(p, "ben") == "accepted"
    [start] = [event for one in p.decisions for event in one.events if isinstance(event, WorkflowStarted)]
    run = Run(workflow_id="r:k", started=start, decisions=list(p.decisions))
    same = next(iter(p.routes.values()))
    assert rehearse(run, same, None, lambda _: {"berlin": calendar()}).verdict == "same"
    assert rehearse(run, same).verdict == "differs", "nothing was applied"
