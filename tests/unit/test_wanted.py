"""A task or a question goes out again only while its step waits for just this one."""

from typing import Any

import pytest

from mesh.core.effects import AskApproval, SendTask
from mesh.core.state import StepState, Workflow
from mesh.core.wanted import is_awaited, is_wanted

ABOUT: dict[str, Any] = {"workflow_id": "r:k", "route": "r", "step": "s", "at_ms": 1, "traceparent": ""}
TASK = SendTask(**ABOUT, run_id="1", task_id="t", attempt=2, agent="a", input={}, due_at_ms=9)
QUESTION = AskApproval(
    **ABOUT,
    approval_id="t",
    question="?",
    payload={},
    payload_schema=None,
    digest="",
    role="",
    on_expiry="reject",
    deadline_at_ms=None,
)


def workflow(**steps: StepState) -> Workflow:
    return Workflow(
        workflow_id="r:k",
        run_id="1",
        route="r",
        digest="",
        key="k",
        status="running",
        started_at_ms=0,
        updated_at_ms=0,
        cloud_event={},
        trace_id="",
        parent_span_id=None,
        steps=steps,
    )


RUNNING = StepState(status="running", task_id="t", attempt=2)
ASKING = StepState(status="asking", task_id="t")


@pytest.mark.parametrize(
    ("effect", "state", "is_so"),
    [
        (TASK, workflow(s=RUNNING), True),
        (TASK, workflow(s=StepState(status="running", task_id="t", attempt=3)), False),
        (TASK, workflow(s=StepState(status="running", task_id="u", attempt=2)), False),
        (TASK, workflow(s=ASKING), False),
        (TASK, workflow(other=RUNNING), False),
        (TASK, None, False),
        (QUESTION, workflow(s=ASKING), True),
        (QUESTION, workflow(s=StepState(status="asking", task_id="u")), False),
        (QUESTION, workflow(s=RUNNING), False),
        (QUESTION, workflow(), False),
        (QUESTION, None, False),
    ],
)
def test_it_is_awaited_by_its_own_step_alone(
    effect: SendTask | AskApproval, state: Workflow | None, *, is_so: bool
) -> None:
    assert is_awaited(effect, state) is is_so
    assert is_wanted(effect, state) is is_so
