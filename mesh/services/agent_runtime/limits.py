"""What bounds a handler and what it gives: one table for the agent runtime and for the test kit.

Owns the numbers, the times, and the words for what comes of them. No I/O.
"""

from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from mesh.codec.tasks import Task
from mesh.core.inputs import TaskError

MAX_MESSAGE_CHARS: Final = 2000  # of an error: enough for people, and the log keeps it always
MAX_KIND_CHARS: Final = 100
MAX_FIELDS: Final = 10  # that a message about a wrong shape names
# ids, which are at most some 2 KB each, six times over, and the rest of a result
ENVELOPE_BYTES: Final = 32 * 1024

CANCELLED: Final = TaskError(kind="CancelledError", message="the handler was cancelled from within")


def begin_by_ms(task: Task, arrived_ms: int) -> float:
    """The latest time at which a task that the broker took at `arrived_ms` may begin.

    Later it need not begin: its router has timed it out.
    """
    by_ms = task.deadline_at.timestamp() * 1000
    if task.start_timeout_s is None:
        return by_ms
    return min(by_ms, arrived_ms + task.start_timeout_s * 1000)


def time_limit(task: Task, now_ms: int) -> tuple[Task, float, str]:
    """The time limit of a task that begins now.

    Gives the task as its handler sees it, until when it may run, and the kind of failure if it runs
    longer.
    """
    deadline_ms = task.deadline_at.timestamp() * 1000
    if task.run_timeout_s is None:
        return task, deadline_ms, "timeout"
    run_until_ms = now_ms + task.run_timeout_s * 1000
    if run_until_ms >= deadline_ms:
        return task, deadline_ms, "timeout"
    return replace(task, deadline_at=datetime.fromtimestamp(run_until_ms / 1000, UTC)), run_until_ms, "run_timeout"


def timed_out(kind: str) -> TaskError:
    return TaskError(kind=kind, message="the deadline came before the handler's end")


def too_large(size_bytes: int, max_record_bytes: int) -> TaskError:
    return TaskError(
        kind="output_too_large",
        message=f"the output makes a record of {size_bytes} bytes, and the broker takes {max_record_bytes} "
        "(store it elsewhere and return where it is)",
        retryable=False,
    )
