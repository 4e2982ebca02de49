"""A public fake of the context that handlers are given."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from mesh.agent.approval import Verdict
from mesh.agent.context import Context


def _in_five_minutes() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=5)


class FakeContext(Context, frozen=True, kw_only=True):
    """A `Context` with a default for every field.

        await classify(Issue(...), FakeContext(attempt=2))

    The task id and the idempotency key follow from the given workflow, run and step, as in the
    mesh. `heartbeats` counts the calls of `heartbeat`. `verdicts`: what `approve` returns, by name:
    a `Verdict`, or whether it is approved as it was asked. Of any other name it raises
    `ApprovalNeeded`, as in the mesh, and `wanted` has the question.
    """

    agent: str = "fake"
    workflow_id: str = "test:1"
    run_id: str = "00000000"
    route: str = "test"
    step: str = "step"
    task_id: str = ""
    attempt: int = 1
    idempotency_key: str = ""
    deadline: datetime = msgspec.field(default_factory=_in_five_minutes)
    heartbeats: int = 0
    verdicts: dict[str, Verdict | bool] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        task_id = self.task_id or f"{self.workflow_id}/{self.run_id}/{self.step}"
        msgspec.structs.force_setattr(self, "task_id", task_id)
        msgspec.structs.force_setattr(self, "idempotency_key", self.idempotency_key or task_id)

    def approve_blocking(
        self, name: str, *, ask: str, payload: Any = None, payload_schema: dict[str, Any] | None = None
    ) -> Verdict:
        verdict = self.verdicts.get(name)
        if verdict is None:
            return super().approve_blocking(name, ask=ask, payload=payload, payload_schema=payload_schema)
        return Verdict(approved=verdict, payload=payload) if isinstance(verdict, bool) else verdict

    def heartbeat(self) -> None:
        msgspec.structs.force_setattr(self, "heartbeats", self.heartbeats + 1)
        super().heartbeat()
