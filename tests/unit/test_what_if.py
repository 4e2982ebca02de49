"""Replaying a recorded run against other rules.

The same rules give the same, and a change shows where it first decides otherwise.
"""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import PEOPLE, Partition, agent, approval, called_route, calling, route
from test_transcripts import SCENARIOS

from mesh.core.delegations import Delegation, KnownDelegation
from mesh.core.events import WorkflowMigrated, WorkflowStarted
from mesh.core.inputs import Undeliverable
from mesh.core.json_values import is_same
from mesh.core.route import Route
from mesh.inspection.what_if import Rehearsal, Run, rehearse
from mesh.inspection.what_if.recording import Runs

REVIEW: dict[str, Any] = {
    "classify": agent(value="${{ event.data }}"),
    "draft": agent("drafter", {"n": "${{ steps.classify.n }}"}, needs="classify"),
    "review": approval(needs="draft", payload="${{ steps.draft }}", deadline="1h", **{"if": "steps.classify.n > 1"}),
    "post": agent("poster", "${{ steps.review.payload }}", needs="review"),
}
ESCALATED: dict[str, Any] = {
    **REVIEW,
    "review": approval(needs="draft", payload="${{ steps.draft }}", deadline="1h", on_expiry="incident"),
}
TAKEN: dict[str, Any] = {
    "review": approval(),
    "post": agent(needs="review"),
    "sorry": agent(needs="review", **{"if": "steps.review.verdict == 'rejected'"}),
}
ASKING: dict[str, Any] = {"buy": agent("buyer", approve={"role": "manager"})}
VOTED: dict[str, Any] = {"review": approval(role="manager", quorum=2)}
MANAGERS = replace(PEOPLE, roles={name: frozenset({"manager"}) for name in ("ana", "ben", "cy")})


def changed(steps: dict[str, Any], **changes: Any) -> Route:
    """The same route with steps changed, added, or (None) taken out."""
    found = {name: step for name, step in {**steps, **changes}.items() if step is not None}
    return route(found)


def recorded(partition: Partition) -> Run:
    runs: list[Run] = []
    for decision in partition.decisions:
        start = next((event for event in decision.events if isinstance(event, WorkflowStarted)), None)
        if start is not None:
            runs.append(Run(workflow_id=decision.workflow_id, started=start, decisions=[decision]))
        elif runs:
            runs[-1] = Run(
                workflow_id=runs[-1].workflow_id, started=runs[-1].started, decisions=[*runs[-1].decisions, decision]
            )
    return runs[-1]


def after(partition: Partition, ms: int) -> Partition:
    partition.now_ms += ms
    return partition


def reviewed(steps: dict[str, Any] = REVIEW, *, n: int = 2) -> Partition:
    """Up to the question."""
    made = Partition(route(steps))
    made.start(data={"n": n})
    after(made, 100).succeed("classify", {"n": n})
    after(made, 200).succeed("draft", {"text": "hello"})
    return made


def approved() -> Partition:
    made = reviewed()
    after(made, 60_000).answer()
    after(made, 50).succeed("post", "posted")
    return made


def said(found: Rehearsal) -> tuple[str, str, str | None]:
    return found.verdict, found.before, found.after


def first(found: Rehearsal) -> tuple[str, str | None, str | None, tuple[str, ...]]:
    assert found.first is not None
    before, now = found.first.before, found.first.after
    return found.first.step, before.what if before else None, now.what if now else None, found.first.fields


# The same rules -----------------------------------------------------------------------------------


def completed() -> Partition:
    return approved()


def rejected() -> Partition:
    made = reviewed()
    after(made, 60_000).answer(decision="reject", reason="no")
    return made


def edited() -> Partition:
    made = reviewed()
    after(made, 60_000).answer(payload={"text": "better"})
    after(made, 10).succeed("post")
    return made


def expired() -> Partition:
    made = reviewed()
    made.wait("review")
    return made


def waiting() -> Partition:
    return reviewed()


def skipped() -> Partition:
    made = reviewed(n=1)
    made.succeed("post")
    return made


def retried() -> Partition:
    made = Partition(route(REVIEW))
    made.start(data={"n": 1})
    after(made, 30).fail("classify")
    made.wait("classify")
    after(made, 7).wait("classify")
    made.wait("classify")
    after(made, 9).succeed("classify", {"n": 1})
    return made


def exhausted_and_retried() -> Partition:
    made = Partition(route({"a": agent(retry={"attempts": 1})}))
    made.start()
    after(made, 30).fail("a")
    after(made, 1_000).command("retry")
    after(made, 30).succeed("a")
    return made


def late() -> Partition:
    """A result that came after its attempt was given up."""
    made = Partition(route({"a": agent(timeout="1s", retry={"attempts": 1})}))
    made.start()
    made.wait("a")
    after(made, 5_000).succeed("a")
    return made


def cancelled() -> Partition:
    made = reviewed()
    after(made, 10).command("cancel", reason="no more")
    return made


def refused_answer() -> Partition:
    made = reviewed()
    after(made, 10).answer(by="bo")
    after(made, 10).answer()
    return made


def unwritable() -> Partition:
    """An expression that can't be evaluated, tried again in vain."""
    made = Partition(route({"a": agent(value="${{ event.data.none }}")}))
    made.start(data={})
    made.command("retry")
    return made


def expired_into_an_incident() -> Partition:
    made = reviewed(ESCALATED)
    made.wait("review")
    return made


def voted() -> Partition:
    """Two of three managers, after an edit, a vote that is taken back, and one that is refused."""
    made = Partition(route(VOTED), directory=MANAGERS)
    made.start()
    after(made, 10).vote("ana")
    after(made, 10).vote("ben", payload={"n": 2})
    after(made, 10).vote("ana")
    return made


def voted_for_another() -> Partition:
    """One of the two votes for a manager who is away."""
    away = Delegation(id="d", giver="ben", to="fay", start_ms=0, until_ms=2**50, signed="own")
    known = (KnownDelegation(delegation=away, from_ms=0),)
    made = Partition(route(VOTED), directory=replace(MANAGERS, delegations=known))
    made.start()
    after(made, 10).vote("ana")
    after(made, 10).vote("fay", on_behalf="ben")
    return made


def asked_in_the_middle() -> Partition:
    """An agent asks for two calls: one is edited, and the other can be asked of nobody at first."""
    made = Partition(route(ASKING), directory=MANAGERS)
    made.start(data={"by": "ana"})
    after(made, 10).want("buy", payload={"n": 1})
    after(made, 10).vote("ana", step="buy.tool-pay", payload={"n": 2})
    after(made, 10).want("buy", "ship")
    after(made, 10).vote("ben", "reject", step="buy.tool-ship")
    after(made, 10).succeed("buy")
    return made


def asked_of_nobody() -> Partition:
    made = Partition(route(ASKING), directory=replace(MANAGERS, roles={}))
    made.start(data={"by": "ana"})
    after(made, 10).want("buy", payload={"n": 1})
    return made


def voted_and_thought_again() -> Partition:
    made = Partition(route(VOTED), directory=MANAGERS)
    made.start()
    after(made, 10).vote("ana")
    after(made, 10).vote("ana", "withdraw")
    after(made, 10).vote("ben")
    after(made, 10).vote("cy", reason="fine")
    return made


def blocked() -> Partition:
    """A rejection that one step takes into its own hands keeps the others from running."""
    made = Partition(route(TAKEN))
    made.start()
    after(made, 10).answer(decision="reject", reason="no")
    after(made, 10).succeed("sorry")
    return made


def sent_nowhere() -> Partition:
    from mesh.core.inputs import TaskUndeliverable  # noqa: PLC0415 - here alone

    made = Partition(route({"a": agent()}))
    made.start()
    made.give(
        TaskUndeliverable(
            workflow_id=made.id_of(), task_id=made.task_id("a"), attempt=1, code="topic_missing", message="gone"
        )
    )
    return made


@pytest.mark.parametrize(
    "make",
    [
        completed,
        rejected,
        edited,
        expired,
        waiting,
        skipped,
        retried,
        exhausted_and_retried,
        late,
        cancelled,
        refused_answer,
        unwritable,
        expired_into_an_incident,
        blocked,
        voted,
        voted_and_thought_again,
        voted_for_another,
        asked_in_the_middle,
        sent_nowhere,
    ],
)
def test_the_same_rules_decide_the_same(make: Callable[[], Partition]) -> None:
    made = make()
    found = rehearse(recorded(made), next(iter(made.routes.values())))
    status = made.workflow().status
    assert (found.verdict, found.before, found.after, found.unknown) == ("same", status, status, ())


# Other rules --------------------------------------------------------------------------------------


def test_a_condition_that_lets_the_question_be_skipped_is_the_first_difference() -> None:
    easier = changed(REVIEW, review={**REVIEW["review"], "if": "steps.classify.n > 5"})
    found = rehearse(recorded(approved()), easier)
    assert said(found) == ("differs", "completed", "completed")
    assert first(found) == ("review", "asked", "skipped", ())


def test_another_quorum_decides_on_the_recorded_votes() -> None:
    def asking(**terms: Any) -> Route:
        return changed(VOTED, review=approval(role="manager", **terms))

    one = rehearse(recorded(voted_and_thought_again()), asking(quorum=1))
    assert said(one)[0] == "differs"
    three = rehearse(recorded(voted()), asking(quorum=3))
    assert (three.before, three.after) == ("completed", "running")
    first_version = rehearse(recorded(voted()), asking())
    assert first_version.before == "completed"
    recorded_first = rehearse(recorded(approved_plainly()), changed({"review": approval()}, review=approval(quorum=1)))
    assert (recorded_first.before, recorded_first.after) == ("completed", "completed")


def test_an_agent_that_asked_of_nobody_asks_again_by_the_other_rules() -> None:
    # nobody knows who else could have answered, so here it is asked
    made = asked_of_nobody()
    assert rehearse(recorded(made), next(iter(made.routes.values()))).verdict == "differs"
    other = rehearse(recorded(asked_in_the_middle()), route({"buy": agent("buyer", approve={"role": "lead"})}))
    assert other.verdict == "differs"


def approved_plainly() -> Partition:
    made = Partition(route({"review": approval()}))
    made.start()
    after(made, 10).answer()
    return made


def test_a_step_that_never_ran_ends_what_can_be_known() -> None:
    more = changed(
        REVIEW, check=agent("checker", needs="draft"), review={**REVIEW["review"], "needs": ["draft", "check"]}
    )
    found = rehearse(recorded(approved()), more)
    assert said(found) == ("differs", "completed", None)
    assert first(found) == ("check", None, "dispatched", ())
    assert [(one.step, one.why) for one in found.unknown] == [("check", "it never ran")]


def test_a_step_that_is_taken_out_is_a_difference_although_the_end_is_the_same() -> None:
    fewer = changed(REVIEW, review=None, post=agent("poster", "${{ steps.draft }}", needs="draft"))
    found = rehearse(recorded(approved()), fewer)
    assert said(found) == ("differs", "completed", "completed")
    assert first(found) == ("review", "asked", None, ())


def test_another_input_is_the_difference_and_the_recorded_result_stands() -> None:
    other = changed(REVIEW, draft=agent("drafter", {"n": "${{ steps.classify.n }}", "tone": "dry"}, needs="classify"))
    found = rehearse(recorded(approved()), other)
    assert said(found) == ("differs", "completed", "completed")
    assert first(found) == ("draft", "dispatched", "dispatched", ("input",))


def test_another_agent_never_did_it() -> None:
    found = rehearse(
        recorded(approved()), changed(REVIEW, draft=agent("writer", {"n": "${{ steps.classify.n }}"}, needs="classify"))
    )
    assert first(found) == ("draft", "dispatched", "dispatched", ("agent",))
    assert [one.why for one in found.unknown] == ["agent writer never did it: drafter did"]


def test_a_shorter_deadline_expires_what_was_answered_in_time() -> None:
    hasty = changed(
        REVIEW, review={**REVIEW["review"], "approval": {**REVIEW["review"]["approval"], "deadline": "30s"}}
    )
    found = rehearse(recorded(approved()), hasty)
    assert said(found) == ("differs", "completed", "rejected")
    assert first(found) == ("review", "approved", "rejected", ())


@pytest.mark.parametrize(
    ("before", "after", "is_one"),
    [(1, True, False), ([1], [True], False), ({"a": [0]}, {"a": [False]}, False), (1, 1.0, True), ((1,), (1,), True)],
)
def test_true_is_not_one(before: Any, after: Any, *, is_one: bool) -> None:
    assert is_same(before, after) == is_same(after, before) == is_one


def test_another_deadline_that_changes_nothing_is_no_difference() -> None:
    patient = changed(
        REVIEW, review={**REVIEW["review"], "approval": {**REVIEW["review"]["approval"], "deadline": "2h"}}
    )
    assert said(rehearse(recorded(approved()), patient)) == ("same", "completed", "completed")


def test_nobody_knows_whether_a_longer_deadline_would_have_been_met() -> None:
    patient = changed(
        REVIEW, review={**REVIEW["review"], "approval": {**REVIEW["review"]["approval"], "deadline": "2h"}}
    )
    found = rehearse(recorded(expired()), patient)
    assert said(found) == ("unknown", "rejected", None)
    assert found.unknown[0].why == "nobody answered by the deadline, which is longer now"


def test_nobody_knows_whether_a_longer_deadline_would_have_spared_the_incident() -> None:
    patient = changed(
        ESCALATED, review=approval(needs="draft", payload="${{ steps.draft }}", deadline="2h", on_expiry="incident")
    )
    found = rehearse(recorded(expired_into_an_incident()), patient)
    assert said(found) == ("unknown", "running", None)
    assert found.unknown[0].why == "nobody answered by the deadline, which is longer now"


def test_a_step_that_takes_the_rejection_too_is_blocked_no_more() -> None:
    both = changed(TAKEN, post=agent(needs="review", **{"if": "steps.review.verdict != 'rejected'"}))
    found = rehearse(recorded(blocked()), both)
    assert first(found) == ("post", "blocked", "skipped", ())
    assert said(found) == ("differs", "completed", "completed")


def test_a_time_out_that_is_shorter_than_the_work_took_counts() -> None:
    hasty = changed(REVIEW, draft=agent("drafter", {"n": "${{ steps.classify.n }}"}, needs="classify", timeout="50ms"))
    found = rehearse(recorded(approved()), hasty)
    assert first(found) == ("draft", "succeeded", "failed", ())
    # the late result of the first attempt counts, as it would have
    assert found.after == "completed"


def test_nobody_knows_what_a_longer_time_out_would_have_brought() -> None:
    patient = changed(REVIEW, classify=agent(value="${{ event.data }}", timeout="10m"))
    found = rehearse(recorded(retried()), patient)
    assert found.unknown[0].why == "no result came by the time-out, which is longer now"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [({}, "same"), ({"heartbeat": "3s"}, "same"), ({"heartbeat": "10s"}, "unknown"), ({"heartbeat": None}, "unknown")],
)
def test_nobody_knows_what_a_longer_silence_would_have_brought(changes: dict[str, Any], verdict: str) -> None:
    work: dict[str, Any] = {"heartbeat": "5s", "run_timeout": "1m", "retry": {"attempts": 1}}
    made = Partition(route({"a": agent(**work)}))
    made.start()
    made.fall_silent("a", "heartbeat_timeout")
    kept = {key: value for key, value in {**work, **changes}.items() if value is not None}
    found = rehearse(recorded(made), route({"a": agent(**kept)}))
    assert found.verdict == verdict
    if verdict == "unknown":
        assert found.unknown[0].why == "no sign of life came by its heartbeat_timeout, which is longer now"


def test_a_failure_of_the_agents_own_stands_whatever_its_periods() -> None:
    made = Partition(route({"a": agent(heartbeat="5s", retry={"attempts": 1})}))
    made.start()
    made.fail("a")
    assert rehearse(recorded(made), route({"a": agent(retry={"attempts": 1})})).verdict == "same"


def test_nobody_knows_what_would_have_come_of_an_attempt_of_which_no_sign_is_asked_any_more() -> None:
    made = Partition(route({"a": agent(heartbeat="5s")}))
    made.start()
    made.fall_silent("a", "heartbeat_timeout")
    assert rehearse(recorded(made), route({"a": agent()})).verdict == "unknown"


def test_a_limit_is_granted_at_once_since_nobody_else_is_in_the_sandbox() -> None:
    p = Partition(route({"a": agent(limit="openai")}, limits={"openai": {"concurrency": 1}}))
    p.start()
    p.deliver()
    p.succeed("a")
    limited = route({"a": agent("x", limit="openai")}, limits={"openai": {"rate": "1/1m"}})
    found = rehearse(recorded(p), limited)
    assert (found.verdict, found.after) == ("same", "completed")


def test_fewer_attempts_end_where_another_was_made() -> None:
    found = rehearse(
        recorded(retried()), changed(REVIEW, classify=agent(value="${{ event.data }}", retry={"attempts": 2}))
    )
    assert said(found) == ("differs", "running", "running")
    assert first(found) == ("classify", "dispatched", "incident", ())


def test_more_attempts_were_never_made() -> None:
    made = Partition(route({"a": agent(retry={"attempts": 1}, on_exhausted="fail")}))
    made.start()
    made.fail("a")
    found = rehearse(recorded(made), route({"a": agent(retry={"attempts": 2}, on_exhausted="fail")}))
    assert (found.before, found.after, found.unknown[0].why) == ("failed", None, "attempt 2 was never made")
    assert first(found) == ("a", None, "dispatched", ())


def test_an_answer_by_somebody_without_the_new_role_is_not_taken_for_one() -> None:
    stricter = changed(
        REVIEW, review={**REVIEW["review"], "approval": {**REVIEW["review"]["approval"], "role": "owner"}}
    )
    found = rehearse(recorded(approved()), stricter)
    assert first(found) == ("review", "asked", "asked", ("role",))
    assert found.unknown[0].why == "the recorded answer would be refused: ana does not have the role owner"
    entitled = rehearse(recorded(approved()), stricter, {"ana": frozenset({"owner"})})
    assert said(entitled) == ("differs", "completed", "completed")
    assert first(entitled) == ("review", "asked", "asked", ("role",))


def test_roles_that_were_taken_away_count() -> None:
    same = route(REVIEW)
    assert rehearse(recorded(approved()), same, PEOPLE.roles).verdict == "same"
    assert rehearse(recorded(approved()), same, {}).verdict == "unknown"


def test_a_question_that_was_never_asked_has_no_answer() -> None:
    always = {**REVIEW["review"]}
    del always["if"]
    found = rehearse(recorded(skipped()), changed(REVIEW, review=always))
    assert first(found) == ("review", "skipped", "asked", ())
    assert found.unknown[0].why == "it was never asked"


def test_an_end_with_another_output_differs() -> None:
    found = rehearse(recorded(skipped()), route(REVIEW, output="${{ steps.classify }}"))
    assert first(found) == ("", "completed", "completed", ("output",))


@pytest.mark.parametrize(
    ("changes", "said_now"),
    [
        ({"on": {"type": "other"}}, "it takes events of type other, not t"),
        ({"on": {"type": "t", "if": "event.data.n > 7"}}, "its guard is false: event.data.n > 7"),
        ({"key": "${{ event.data.none }}"}, "event.data.none is not there"),
    ],
)
def test_rules_that_would_not_start_it_differ_from_the_start(changes: dict[str, Any], said_now: str) -> None:
    found = rehearse(recorded(approved()), route(REVIEW, **changes))
    assert said(found) == ("differs", "completed", "not started")
    assert found.first is not None
    assert found.first.after is not None
    assert said_now in found.first.after.detail["reason"]


def test_another_key_is_another_workflow() -> None:
    found = rehearse(recorded(approved()), route(REVIEW, key="${{ event.data.n }}"))
    assert found.first is not None
    assert found.first.after is not None
    assert found.first.after.detail == {"workflow": "r:2"}


# Every scenario -----------------------------------------------------------------------------------

OTHERWISE = {"over-to-a-version-that-fixes-it"}
"""By the version that corrects it, the step is not stuck in the first place."""


def runs_of(partition: Partition) -> list[tuple[Run, Route]]:
    """Each run that a scenario has, and the rules that it ended under.

    Another partition's, told in the same transcript, has rules that are not known here.
    """
    runs = Runs()
    for decision in partition.decisions:
        runs.take(decision)
    found = []
    for run in runs.found:
        digests = [run.started.digest]
        digests += [e.digest for d in run.decisions for e in d.events if isinstance(e, WorkflowMigrated)]
        if digests[-1] in partition.routes:
            found.append((run, partition.routes[digests[-1]]))
    return found


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_scenario_is_the_same_by_its_own_rules(name: str) -> None:
    runs = runs_of(SCENARIOS[name]())
    assert runs
    found = [rehearse(run, route) for run, route in runs]
    wanted = "differs" if name in OTHERWISE else "same"
    assert [(one.verdict, one.first, one.unknown) for one in found if one.verdict != wanted] == []
    if wanted == "same":
        assert [one.after for one in found] == [one.before for one in found]


# Other rules of the whole language ----------------------------------------------------------------


def why(found: Rehearsal) -> list[tuple[str, str]]:
    return [(one.step, one.why) for one in found.unknown]


def raced() -> Partition:
    made = Partition(route(RACE))
    made.start()
    made.succeed("quick")
    return made


RACE: dict[str, Any] = {
    "slow": agent("slow"),
    "quick": agent("quick"),
    "first": {"needs": {"first_of": ["slow", "quick"]}, "value": 1},
}


def test_what_was_cancelled_before_it_was_heard_of_is_not_known() -> None:
    found = rehearse(recorded(raced()), changed(RACE, first={"needs": ["slow", "quick"], "value": 1}))
    assert said(found) == ("unknown", "completed", None)
    assert why(found) == [("slow", "nobody waited for it to the end")]


def paid(*, early: bool = False, **wait: Any) -> Partition:
    """It waits for an event, which comes once it waits, or before it starts."""
    made = Partition(route(waiting_for(**wait)))
    if early:
        made.offer("paid", data={"amount": 5, "key": "z"})
    made.start()
    made.succeed("order")
    if not early:
        after(made, 1_000).offer("paid", data={"amount": 5, "key": "z"})
    made.succeed("ship")
    return made


def waiting_for(event: str = "paid", **wait: Any) -> dict[str, Any]:
    waits = {"needs": "order", "wait": {"event": event, "on_timeout": "skip", "timeout": "1d", **wait}}
    return {"order": agent(), "paid": waits, "ship": agent(needs="paid")}


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"event": "settled"}, "it never waited for an event settled"),
        (
            {"key": "${{ event.data.key }}"},
            "the event that it took finds another workflow, and which others came is not known",
        ),
        (
            {"if": "event.data.amount > 5"},
            "it would not take the event that it took, and which others came is not known",
        ),
    ],
)
def test_which_other_events_came_is_not_known(changes: dict[str, Any], reason: str, early: bool) -> None:
    found = rehearse(runs_of(paid(early=early))[0][0], route(waiting_for(**changes)))
    assert (found.after, why(found)) == (None, [("paid", reason)])


def test_a_time_out_before_the_event_came_counts() -> None:
    found = rehearse(runs_of(paid())[0][0], route(waiting_for(timeout="500ms")))
    assert first(found) == ("paid", "received", "skipped", ())
    assert found.after == "completed"


def test_nobody_knows_whether_an_event_would_have_come_later() -> None:
    made = Partition(route(waiting_for()))
    made.start()
    made.succeed("order")
    made.wait("paid")
    made.succeed("ship")
    [(run, _)] = runs_of(made)
    assert rehearse(run, route(waiting_for())).verdict == "same"
    found = rehearse(run, route(waiting_for(timeout="2d")))
    assert why(found) == [("paid", "no event came by the time-out, which is longer now")]


def test_a_run_that_still_waits_is_waited_for_no_longer_than_it_was_recorded() -> None:
    for steps in (waiting_for(), {"order": agent(), "nap": {"needs": "order", "wait": "1d"}}):
        made = Partition(route(steps))
        made.start()
        made.succeed("order")
        assert said(rehearse(recorded(made), route(steps))) == ("same", "running", "running")


def test_an_event_that_was_read_after_the_time_out_was_there_before() -> None:
    made = Partition(route(waiting_for()))
    made.start()
    made.succeed("order")
    taken_ms = made.now_ms
    after(made, 2 * 86_400_000).offer("paid", at_ms=taken_ms)
    made.succeed("ship")
    assert said(rehearse(recorded(made), route(waiting_for()))) == ("same", "completed", "completed")


def test_a_death_of_an_agent_is_replayed() -> None:
    steps = {"a": agent(on_exhausted="fail")}
    for deaths, end in ((1, "completed"), (3, "failed")):
        made = Partition(route(steps))
        made.start()
        for n in range(deaths):
            made.interrupt("a", by=f"host-{n}")
        if end == "completed":
            made.succeed("a")
        assert said(rehearse(recorded(made), route(steps))) == ("same", end, end)


LOOP: dict[str, Any] = {
    "draft": agent("writer"),
    "judge": agent("critic", needs="draft", repeat={"from": "draft", "until": "steps.judge >= 5", "limit": 3}),
}


def test_one_round_more_was_never_made() -> None:
    made = Partition(route(LOOP))
    made.start()
    made.succeed("draft")
    made.succeed("judge", 6)
    stricter = changed(
        LOOP, judge={**LOOP["judge"], "repeat": {"from": "draft", "until": "steps.judge >= 7", "limit": 3}}
    )
    found = rehearse(recorded(made), stricter)
    assert first(found) == ("judge", None, "round", ())
    assert why(found) == [("draft", "it was never in round 2")]


def test_a_hand_over_that_would_be_allowed_now_was_never_made() -> None:
    ask = agent("triage", handover={"to": ["tech"], "hops": 1}, on_exhausted="fail")
    made = Partition(route({"ask": ask}))
    made.start()
    made.hand_over("ask", "billing")
    [(run, rules)] = runs_of(made)
    assert said(rehearse(run, rules)) == ("same", "failed", "failed")
    kinder = route({"ask": {**ask, "handover": {"to": ["billing"]}}})
    assert why(rehearse(run, kinder)) == [("ask", "it would be handed over to billing, who never had it")]


def test_a_hand_over_that_was_held_is_not_known_beyond() -> None:
    ask = agent("triage", handover={"to": ["tech"]})
    budget = {"hops": 1, "on_exhausted": "ask", "role": "maintainer"}
    made = Partition(route({"ask": ask}, budget=budget))
    made.start()
    made.hand_over("ask", "tech", {"q": 1})
    [(run, rules)] = runs_of(made)
    assert said(rehearse(run, rules)) == ("same", "running", "running")
    found = rehearse(run, route({"ask": ask}, budget={**budget, "hops": 2}))
    assert first(found) == ("ask", "held", "dispatched", ())
    assert why(found) == [("ask", "it never came so far")]


def test_what_a_call_has_taken_that_nobody_waited_for_lets_others_go_on() -> None:
    steps = {
        "slow": calling(reserve={"tokens": 80}),
        "quick": agent(),
        "next": agent(needs={"first_of": ["slow", "quick"]}, reserve={"tokens": 80}),
    }
    made = Partition(route(steps, budget={"tokens": 140}), called_route({"x": agent(reserve={"tokens": 50})}))
    made.start()
    made.deliver()
    after(made, 100).succeed("quick", usage={"tokens": 10})
    after(made, 100).deliver()
    after(made, 100).succeed("next", usage={"tokens": 70})
    run, rules = runs_of(made)[0]
    assert said(rehearse(run, rules)) == ("same", "completed", "completed")
    dearer = route({**steps, "next": {**steps["next"], "reserve": {"tokens": 85}}}, budget={"tokens": 140})
    assert said(rehearse(run, dearer))[1:] == ("completed", "failed")


def test_what_a_call_has_taken_that_nobody_waited_for_is_told_after_as_long() -> None:
    steps = {
        "slow": calling(reserve={"tokens": 80}),
        "quick": agent(),
        "next": agent(needs={"first_of": ["slow", "quick"]}, reserve={"tokens": 120}),
        "rest": {"wait": "1s"},
        "late": agent(needs="rest", reserve={"tokens": 80}),
    }
    made = Partition(route(steps, budget={"tokens": 200}), called_route({"x": agent(reserve={"tokens": 50})}))
    made.start()
    made.deliver()
    after(made, 100).succeed("quick", usage={"tokens": 10})
    [taken_back] = made.crossing()
    # there is enough for what comes then, as long as the slice holds up the other
    made.wait("rest")
    after(made, 500).succeed("late", usage={"tokens": 5})
    assert made.step("next").status == "held"
    after(made, 500).give(taken_back)
    made.deliver()
    after(made, 100).succeed("next", usage={"tokens": 120})
    run, rules = runs_of(made)[0]
    assert said(rehearse(run, rules)) == ("same", "completed", "completed")


def called(kind: str) -> Partition:
    """A call that has ended so."""
    made = Partition(route({"a": calling(timeout="1h", on_exhausted="fail")}), called_route({"x": agent()}))
    made.start(data=1)
    made.pass_on()
    if kind == "timeout":
        made.wait("a")
    else:
        made.command("cancel", key=f"sub:{made.task_id('a')}")
        made.pass_on()
    return made


def test_a_call_takes_as_long_as_it_took() -> None:
    run, rules = runs_of(called("cancelled"))[0]
    assert said(rehearse(run, rules)) == ("same", "failed", "failed")
    run, rules = runs_of(called("timeout"))[0]
    assert said(rehearse(run, rules)) == ("same", "failed", "failed")
    patient = route({"a": calling(timeout="2h", on_exhausted="fail")})
    assert why(rehearse(run, patient)) == [("a", "no result came by the time-out, which is longer now")]


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        (calling(), calling("other"), "route other was never called: sub was"),
        (calling(), agent(), "it was not a task"),
        (agent(), calling(), "it was not a call"),
    ],
)
def test_who_never_did_it_has_no_result(before: dict[str, Any], now: dict[str, Any], reason: str) -> None:
    made = Partition(route({"a": before}), called_route({"x": agent()}))
    made.start(data=1)
    [(run, _)] = runs_of(made)
    assert why(rehearse(run, route({"a": now}))) == [("a", reason)]


def test_a_call_that_could_not_be_sent_or_made_is_so_again() -> None:
    made = Partition(route({"a": calling()}), called_route({"x": agent()}))
    made.start(data=1)
    name = f"{made.task_id('a')}/1/call"
    made.give(Undeliverable(workflow_id=made.id_of(), effect_id=name, topic="t", code="too_large", message="no"))
    [(run, rules)] = runs_of(made)
    assert said(rehearse(run, rules)) == ("same", "running", "running")
    lonely = Partition(route({"a": calling()}))
    lonely.start()
    [(run, rules)] = runs_of(lonely)
    assert said(rehearse(run, rules)) == ("same", "running", "running")
    lonely.directory = made.directory
    lonely.command("retry")
    [(run, rules)] = runs_of(lonely)
    assert said(rehearse(run, rules)) == ("same", "running", "running")


def test_an_output_by_hand_counts_as_the_result_of_the_newest_attempt() -> None:
    made = Partition(route({"a": agent(retry={"attempts": 1}), "b": agent(needs="a", value="${{ steps.a }}")}))
    made.start()
    made.fail("a")
    after(made, 10).command("pause")
    after(made, 10).command("complete", step="a", output=7)
    after(made, 10).command("resume")
    made.succeed("b")
    [(run, rules)] = runs_of(made)
    assert said(rehearse(run, rules)) == ("same", "completed", "completed")


def test_an_output_by_hand_of_what_never_was_sent_is_left_out() -> None:
    made = Partition(route({"a": agent(value="${{ event.data.none }}")}))
    made.start(data={})
    made.command("complete", step="a", output=7)
    [(run, rules)] = runs_of(made)
    assert said(rehearse(run, rules))[1:] == ("completed", "running")


def test_an_operators_word_is_given_again() -> None:
    fatal: dict[str, Any] = {"retry": {"attempts": 1}}
    for command in ("skip", "fail"):
        made = Partition(route({"a": agent(**fatal), "b": agent(needs="a")}))
        made.start()
        made.fail("a")
        after(made, 10).command(command)
        [(run, rules)] = runs_of(made)
        assert rehearse(run, rules).verdict == "same"
        found = rehearse(run, route({"a": agent(**fatal, on_exhausted="continue"), "b": agent(needs="a")}))
        assert found.verdict == "differs"


def test_a_question_may_be_asked_more_often_than_it_was() -> None:
    made = expired_into_an_incident()
    hasty = {**ESCALATED["review"], "approval": {**ESCALATED["review"]["approval"], "deadline": "1m"}}
    after(made, 1_000).command("retry", step="review")
    [(run, rules)] = runs_of(made)
    assert rehearse(run, rules).verdict == "same"
    assert rehearse(run, changed(ESCALATED, review=hasty)).after == "running"


def test_runs_that_are_not_wanted_and_memories_that_end_leave_nothing() -> None:
    made = Partition(route(waiting_for(), keep_events="1h"))
    made.offer("paid", event_id="o0")
    made.wait()
    made.start()
    made.succeed("order")
    runs = Runs()
    for decision in made.decisions:
        runs.take(decision, is_wanted=False)
    assert runs.found == []
    [(run, _)] = runs_of(made)
    assert run.before == []


def test_a_time_that_had_not_come_when_the_record_ends_does_not_come() -> None:
    made = Partition(route({"a": agent(retry={"backoff": "1s"})}))
    made.start()
    made.fail("a")
    after(made, 60_000).succeed("a", attempt=7)  # what was never dispatched changes nothing
    [(run, rules)] = runs_of(made)
    assert said(rehearse(run, rules)) == ("same", "running", "running")
