"""A public fake of the context that handlers are given."""

from datetime import UTC, datetime, timedelta

import msgspec

from mesh.agent.context import Context


def _in_five_minutes() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=5)


class FakeContext(Context, frozen=True, kw_only=True):
    """A `Context` with a default for every field.

        await classify(Issue(...), FakeContext(attempt=2))

    The task id and the idempotency key follow from the given workflow, run and step, as in the
    mesh. `heartbeats` counts the calls of `heartbeat`.
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

    def __post_init__(self) -> None:
        task_id = self.task_id or f"{self.workflow_id}/{self.run_id}/{self.step}"
        msgspec.structs.force_setattr(self, "task_id", task_id)
        msgspec.structs.force_setattr(self, "idempotency_key", self.idempotency_key or task_id)

    def heartbeat(self) -> None:
        msgspec.structs.force_setattr(self, "heartbeats", self.heartbeats + 1)
        super().heartbeat()
