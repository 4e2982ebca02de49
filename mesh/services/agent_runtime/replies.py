"""What an agent sends: a result for each task, or a dead letter for a record that is not a task.

Owns the choice of record, also if the first choice can't be sent. No I/O.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from mesh.agent.definition import Agent
from mesh.codec.dead_letters import dead_letter
from mesh.codec.tasks import encode_interrupted, encode_result
from mesh.core.inputs import HandOver, TaskError
from mesh.core.tool_approvals import Wanted
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Clock, Delivery, OutRecord, Record, SendFailure
from mesh.services.agent_runtime.call import Answer
from mesh.services.agent_runtime.limits import ENVELOPE_BYTES, too_large
from mesh.services.agent_runtime.work import Work

_MS: Final = 1000.0


class Replies:
    """Makes records for one agent. `max_record_bytes`: what the broker takes."""

    def __init__(
        self,
        agent: Agent[Any, Any],
        *,
        topics: Topics,
        clock: Clock,
        instance: str,
        max_record_bytes: int,
        ticks: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._ticks = ticks
        self._version = agent.version
        self._group = topics.agent_group(agent.name)
        self._topics = topics
        self._clock = clock
        self._instance = instance
        self._max_record_bytes = max_record_bytes

    def result(self, work: Work, answer: Answer, traceparent: str | None = None) -> OutRecord:
        """The result of a task that was begun."""
        assert work.task is not None  # noqa: S101 - only what was decoded has a result
        work.ended_s = self._ticks()
        record = encode_result(
            work.task,
            output=answer if isinstance(answer, bytes) else None,
            error=answer if isinstance(answer, TaskError) else None,
            handover=answer if isinstance(answer, HandOver) else None,
            approval=answer if isinstance(answer, Wanted) else None,
            agent_version=self._version,
            agent_instance=self._instance,
            duration_ms=round((work.ended_s - work.started_s) * _MS, 3),
            usage=work.usage or None,
            traceparent=traceparent,
        )
        if isinstance(answer, TaskError) or fits(record, answer, self._max_record_bytes):
            return record
        return self.result(work, too_large(record.size_bytes(), self._max_record_bytes), traceparent)

    def interrupted(self, work: Work, instance: str) -> OutRecord:
        """The word that the process `instance` died with the task in its hands."""
        assert work.task is not None  # noqa: S101 - it was decoded to know that it accepts this
        return encode_interrupted(work.task, agent_instance=instance)

    def malformed(self, record: Record, error: MalformedRecord) -> OutRecord:
        """The dead letter for a record that is not a task."""
        return self._dead_letter(record, "malformed_task", str(error))

    def instead(self, work: Work, record: OutRecord, failure: SendFailure) -> OutRecord | None:
        """What to send if `record` is permanently refused.

        None: nothing smaller or safer is left.
        """
        if record.topic == self._topics.dlq:
            return None
        if failure.code is Delivery.TOO_LARGE:
            return self.result(work, too_large(record.size_bytes(), self._max_record_bytes))
        trouble = f"its result can't be sent to {record.topic}/{record.partition}: {failure.message}"
        return self._dead_letter(work.record, "result_undeliverable", trouble)

    def _dead_letter(self, record: Record, code: str, message: str) -> OutRecord:
        return dead_letter(
            record,
            code=code,
            message=message,
            component="agent",
            group=self._group,
            topics=self._topics,
            at_ms=self._clock.now_ms(),
        )


def fits(record: OutRecord, answer: Answer, max_record_bytes: int) -> bool:
    """Whether the broker takes this result."""
    # far below the limit nothing need be counted exactly
    if isinstance(answer, bytes) and len(answer) < max_record_bytes - ENVELOPE_BYTES:
        return True
    return record.size_bytes() <= max_record_bytes
