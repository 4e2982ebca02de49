"""Routes that count working time: what they may say, and how it is told."""

from typing import Any

import pytest
from test_route_voting import STAGE, document, problems, terms, work

from mesh.core.calendars import WorkingTime
from mesh.inspection.diagram import of_route
from mesh.inspection.explanation import explain_event
from mesh.routes.compiler import compile_route
from mesh.routes.schema.route import route_schema

HOURS: dict[str, Any] = {"working": "16h", "calendar": "berlin"}
DAYS: dict[str, Any] = {"working_days": 2, "calendar": "berlin"}


def test_a_deadline_and_stages_in_working_time_are_read() -> None:
    found = work({"role": "boss", "deadline": HOURS})
    assert found.deadline_working == WorkingTime(calendar="berlin", ms=16 * 3_600_000)
    assert (found.deadline_s, found.deadline_at, found.has_deadline) == (None, None, True)
    assert found.calendars == {"berlin"}
    stages = terms({"role": "boss", "escalate": [{**STAGE, "after": {**DAYS, "calendar": "paris"}}, STAGE]}).stages
    assert [(one.after_s, one.working) for one in stages] == [
        (0.0, WorkingTime(calendar="paris", days=2)),
        (3600.0, None),
    ]
    assert work({"role": "boss", "deadline": HOURS, "escalate": [{**STAGE, "after": DAYS}]}).calendars == {"berlin"}


@pytest.mark.parametrize(
    ("deadline", "there"),
    [({}, False), ({"deadline": "1h"}, True), ({"deadline": {"at": "${{ event.data.d }}"}}, True)],
)
def test_a_deadline_of_every_kind_is_one(deadline: dict[str, Any], there: bool) -> None:
    found = work({"role": "boss", **deadline})
    assert (found.has_deadline, found.calendars) == (there, frozenset())


@pytest.mark.parametrize(
    ("approval", "problem"),
    [
        ({"deadline": {"working": "16h"}}, "calendar is missing"),
        ({"deadline": {"calendar": "c"}}, "deadline needs working or working_days, one of them"),
        ({"deadline": {**HOURS, **DAYS}}, "deadline needs working or working_days, one of them"),
        ({"deadline": {**HOURS, "at": "x"}}, "unknown key at"),
        ({"deadline": {**HOURS, "calendar": "Berlin"}}, "calendar can't be Berlin"),
        ({"deadline": {**HOURS, "working": "soon"}}, "working can't be soon"),
        ({"deadline": {**HOURS, "working": "0h"}}, "working can't be 0h"),
        ({"deadline": {**DAYS, "working_days": 0}}, "working_days can't be 0"),
        ({"deadline": {**DAYS, "working_days": "2"}}, "working_days can't be 2"),
        ({"escalate": [{**STAGE, "after": {}}]}, "after needs working or working_days"),
        ({"extend": {"by": HOURS}, "deadline": "1h"}, "by can't be"),
    ],
)
def test_what_is_wrong_with_working_time_is_said(approval: dict[str, Any], problem: str) -> None:
    assert any(problem in found for found in problems({"role": "boss", **approval}))


def staged(deadline: Any, *after: Any) -> dict[str, Any]:
    return {"role": "boss", "deadline": deadline, "escalate": [{**STAGE, "after": one} for one in after]}


@pytest.mark.parametrize(
    ("approval", "problem"),
    [
        (staged(HOURS, {**HOURS, "working": "8h"}, {**HOURS, "working": "8h"}), "comes 16 working hours after"),
        (staged(DAYS, DAYS), "this stage comes 2 working days after the question, and the deadline 2 working days"),
    ],
)
def test_a_stage_that_is_not_before_the_deadline_is_refused(approval: dict[str, Any], problem: str) -> None:
    assert any(problem in found for found in problems(approval))


@pytest.mark.parametrize(
    "approval",
    [
        staged(HOURS, {**HOURS, "working": "15h"}),
        # nobody knows how these compare
        staged(HOURS, DAYS),
        staged(HOURS, {**HOURS, "working": "99h", "calendar": "other"}),
        staged(HOURS, {**HOURS, "working": "9h"}, "30d"),
        staged("1h", DAYS),
        staged({"at": "${{ event.data.d }}"}, DAYS),
    ],
)
def test_stages_that_may_come_before_the_deadline_are_taken(approval: dict[str, Any]) -> None:
    assert terms(approval).stages


def test_explain_and_graph_tell_the_amount_since_nobody_knows_the_calendar() -> None:
    route = compile_route(
        document({"role": "boss", "deadline": HOURS, "escalate": [{**STAGE, "after": DAYS}]}, key="k")
    )
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {}}
    [said] = explain_event([route], event, now_ms=1_800_000_000_000)
    assert [first.said for first in said.first] == ["Good? (open for 16 working hours of berlin)"]
    assert "asks 1 of boss, 16 working hours, then reject" in of_route(route)
    plain = compile_route(document({"role": "boss"}, key="k"))
    assert [first.said for one in explain_event([plain], event, now_ms=0) for first in one.first] == ["Good?"]


def test_the_schema_takes_one_way_to_count() -> None:
    approval = route_schema()["properties"]["steps"]["additionalProperties"]["properties"]["approval"]
    *_, working = approval["properties"]["deadline"]["anyOf"]
    assert (working["required"], working["oneOf"]) == (
        ["calendar"],
        [{"required": ["working"]}, {"required": ["working_days"]}],
    )
