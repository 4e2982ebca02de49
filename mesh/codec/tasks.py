"""The bytes of tasks, their results and agents' signs of life.

The contract between routers and agents in any language. Owns these records;
`topics/schemas/task.json` and `result.json` say the same in JSON Schema, and a test compares the
two. It must not know what an agent does with a task. Routers call `encode_task` and `decode_reply`;
agents call `decode_task`, `encode_result` and `encode_sign`.

On the wire both are CloudEvents 1.0 in Kafka's binary mode: attributes in headers, JSON in the
value. A reader here needs only the value, so an agent that sends bare JSON is understood. Unknown
fields are ignored, so that either side can be upgraded first.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final, Literal

import msgspec
from msgspec.structs import replace

from mesh.codec import exact_json
from mesh.core.effects import SendTask
from mesh.core.ids import attempt_id
from mesh.core.inputs import HandOver, ResultReceived, SignReceived, TaskError
from mesh.core.route import Periods
from mesh.core.tool_approvals import ToolVerdict, Wanted
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Header, OutRecord, Record

TASK_TYPE: Final = "mesh.task"
RESULT_TYPE: Final = "mesh.result"
SIGN_TYPE: Final = "mesh.sign"

_SPEC_VERSION: Final[Header] = ("ce_specversion", b"1.0")
_JSON: Final[Header] = ("content-type", b"application/json")
_TASK_HEADERS: Final[tuple[Header, ...]] = (
    _SPEC_VERSION,
    _JSON,
    ("ce_type", TASK_TYPE.encode()),
    ("ce_source", b"/mesh/router"),
)
_RESULT_HEADERS: Final[tuple[Header, ...]] = (_SPEC_VERSION, _JSON, ("ce_type", RESULT_TYPE.encode()))
_SIGN_HEADERS: Final[tuple[Header, ...]] = (_SPEC_VERSION, _JSON, ("ce_type", SIGN_TYPE.encode()))
_NULL: Final = msgspec.Raw(b"null")
APPROVAL_WANTED: Final = "approval_wanted"
# agents send these statuses only to routers that know the word (ADR 12, ADR 25)
_ACCEPTS: Final = ("interrupted", APPROVAL_WANTED)

_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Seconds = Annotated[float, msgspec.Meta(gt=0)]


class ReplyTo(msgspec.Struct, frozen=True, kw_only=True):
    """Where the result must go.

    An explicit partition, because clients in other languages use other partitioners.
    """

    topic: _Name
    partition: Annotated[int, msgspec.Meta(ge=0)]


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A record of `mesh.tasks.<agent>`: one attempt of one step.

    `input` is its JSON text, so that it is decoded once, by the agent's own type. `idempotency_key`
    is one for all attempts. Times are aware, UTC. A result that reaches the broker after
    `deadline_at` does not count. `start_timeout_s`, `run_timeout_s`, `heartbeat_s`: the router
    waits so long for signs of life, as in `mesh.core.route.Periods`; with none of them it wants no
    signs. `deaths`: processes that have died with it in their hands. `approvals`: the verdicts on
    what its agent wanted to do, in earlier attempts.
    """

    task_id: _Name
    attempt: Annotated[int, msgspec.Meta(ge=1)]
    workflow_id: _Name
    run_id: _Name
    route: _Name
    step: _Name
    agent: _Name
    input: msgspec.Raw
    idempotency_key: _Name
    created_at: Annotated[datetime, msgspec.Meta(tz=True)]
    deadline_at: Annotated[datetime, msgspec.Meta(tz=True)]
    reply_to: ReplyTo
    traceparent: str = ""
    budget: dict[str, float] | None = None  # what the attempt may take, by name: tokens, usd
    start_timeout_s: _Seconds | None = None
    run_timeout_s: _Seconds | None = None
    heartbeat_s: _Seconds | None = None
    deaths: Annotated[int, msgspec.Meta(ge=0)] = 0
    accepts: tuple[str, ...] = ()  # statuses of results beyond the first three that its router knows
    approvals: tuple[ToolVerdict, ...] = ()

    @property
    def attempt_id(self) -> str:
        return attempt_id(self.task_id, self.attempt)


class _TaskOut(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A `Task` whose input is a value."""

    task_id: str
    attempt: int
    workflow_id: str
    run_id: str
    route: str
    step: str
    agent: str
    input: object
    idempotency_key: str
    created_at: datetime
    deadline_at: datetime
    reply_to: ReplyTo
    traceparent: str = ""
    budget: dict[str, float] | None = None
    start_timeout_s: float | None = None
    run_timeout_s: float | None = None
    heartbeat_s: float | None = None
    deaths: int = 0
    accepts: tuple[str, ...] = ()
    approvals: tuple[ToolVerdict, ...] = ()


class _ResultOut(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A `ResultReceived` whose output is JSON text."""

    task_id: str
    attempt: int
    workflow_id: str
    status: str
    output: msgspec.Raw = _NULL
    error: TaskError | None = None
    handover: HandOver | None = None
    approval: Wanted | None = None
    agent: str = ""
    agent_version: str = ""
    agent_instance: str = ""
    duration_ms: float = 0.0
    usage: dict[str, float] | None = None


_BEFORE_OUTPUT: Final = b'"output":'
_encoder: Final = msgspec.json.Encoder()
_task_decoder: Final = msgspec.json.Decoder(Task)
_result_decoder: Final = msgspec.json.Decoder(ResultReceived)
_sign_decoder: Final = msgspec.json.Decoder(SignReceived)
_NO_PERIODS: Final = Periods()


def encode_task(effect: SendTask, *, topics: Topics, reply_partition: int) -> OutRecord:
    """The task's record.

    Its key is the attempt's id, so that a fan-out spreads over the agent's partitions.
    """
    event_id = attempt_id(effect.task_id, effect.attempt).encode()
    value = _TaskOut(  # more than 15 named arguments are packed into a dict, which takes three times as long
        task_id=effect.task_id,
        attempt=effect.attempt,
        workflow_id=effect.workflow_id,
        run_id=effect.run_id,
        route=effect.route,
        step=effect.step,
        agent=effect.agent,
        input=effect.input,
        idempotency_key=effect.task_id,
        created_at=_utc(effect.at_ms),
        deadline_at=_utc(effect.due_at_ms),
        reply_to=ReplyTo(topic=topics.results, partition=reply_partition),
        traceparent=effect.traceparent,
        budget=effect.budget,
        accepts=_ACCEPTS,
        approvals=effect.approvals,
    )
    if effect.periods is not None or effect.deaths:
        value = _with_watch(value, effect.periods or _NO_PERIODS, effect.deaths)
    return OutRecord(
        topics.tasks(effect.agent),
        event_id,
        _encoder.encode(value),
        (
            *_TASK_HEADERS,
            ("ce_id", event_id),
            ("ce_correlationid", effect.workflow_id.encode()),
            ("traceparent", effect.traceparent.encode()),
        ),
    )


def _with_watch(value: _TaskOut, periods: Periods, deaths: int) -> _TaskOut:
    return replace(
        value,
        start_timeout_s=periods.start_timeout_s,
        run_timeout_s=periods.run_timeout_s,
        heartbeat_s=periods.heartbeat_s,
        deaths=deaths,
    )


def decode_task(record: Record) -> Task:
    """Raises `MalformedRecord`, which names the record and what is wrong with it."""
    if record.value is None:
        raise MalformedRecord(
            f"the task record {_place(record)} has no value (routers write none such: see who writes to this topic)"
        )
    try:
        return _task_decoder.decode(record.value)
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(
            f"the record {_place(record)} is not a task: {error} (topics/schemas/task.json has the form)"
        ) from error


def encode_result(
    task: Task,
    *,
    output: bytes | None = None,
    error: TaskError | None = None,
    handover: HandOver | None = None,
    approval: Wanted | None = None,
    agent_version: str,
    agent_instance: str,
    duration_ms: float,
    usage: dict[str, float] | None = None,
    traceparent: str | None = None,
) -> OutRecord:
    """What became of one attempt, to where the task says.

    `output` is JSON text; with `error` the attempt failed; with `handover` the task goes on to
    another agent; with `approval` the agent goes on after the verdict, if the task accepts that.

    `traceparent`: the agent's own span; else the task's is handed back.
    """
    value = _ResultOut(
        task_id=task.task_id,
        attempt=task.attempt,
        workflow_id=task.workflow_id,
        status=_status(error, handover, approval),
        output=_NULL if output is None else msgspec.Raw(output),
        error=error,
        handover=handover,
        approval=approval,
        agent=task.agent,
        agent_version=agent_version,
        agent_instance=agent_instance,
        duration_ms=duration_ms,
        usage=usage,
    )
    cause = task.attempt_id.encode()
    workflow_id = task.workflow_id.encode()
    return OutRecord(
        task.reply_to.topic,
        workflow_id,
        _encoder.encode(value),
        (
            *_RESULT_HEADERS,
            ("ce_id", cause + b"/result"),
            ("ce_source", b"/mesh/agents/" + task.agent.encode()),
            ("ce_correlationid", workflow_id),
            ("ce_causationid", cause),
            ("traceparent", (traceparent or task.traceparent).encode()),
        ),
        task.reply_to.partition,
    )


def _status(error: TaskError | None, handover: HandOver | None, approval: Wanted | None) -> str:
    if error is not None:
        return "failed"
    if handover is not None:
        return "handed_over"
    return "succeeded" if approval is None else APPROVAL_WANTED


def encode_interrupted(task: Task, *, agent_instance: str) -> OutRecord:
    """Encode that a process died with this attempt in its hands.

    The process is `agent_instance`; empty if nobody knows which. Only for tasks that accept it.
    """
    value = _ResultOut(
        task_id=task.task_id,
        attempt=task.attempt,
        workflow_id=task.workflow_id,
        status="interrupted",
        agent=task.agent,
        agent_instance=agent_instance,
    )
    cause, workflow_id = task.attempt_id.encode(), task.workflow_id.encode()
    return OutRecord(
        task.reply_to.topic,
        workflow_id,
        _encoder.encode(value),
        (
            *_RESULT_HEADERS,
            ("ce_id", cause + b"/interrupted"),
            ("ce_source", b"/mesh/agents/" + task.agent.encode()),
            ("ce_correlationid", workflow_id),
            ("ce_causationid", cause),
            ("traceparent", task.traceparent.encode()),
        ),
        task.reply_to.partition,
    )


def encode_sign(
    task: Task,
    status: Literal["started", "heartbeat"],
    *,
    agent_version: str,
    agent_instance: str,
    duration_ms: float,
) -> OutRecord:
    """A sign of life of one attempt, to where its result will go.

    `duration_ms`: since its handler began.
    """
    value = SignReceived(
        task_id=task.task_id,
        attempt=task.attempt,
        workflow_id=task.workflow_id,
        status=status,
        duration_ms=duration_ms,
        agent=task.agent,
        agent_version=agent_version,
        agent_instance=agent_instance,
    )
    cause, workflow_id = task.attempt_id.encode(), task.workflow_id.encode()
    return OutRecord(
        task.reply_to.topic,
        workflow_id,
        _encoder.encode(value),
        (
            *_SIGN_HEADERS,
            ("ce_id", cause + f"/{status}/{duration_ms:.0f}".encode()),
            ("ce_source", b"/mesh/agents/" + task.agent.encode()),
            ("ce_correlationid", workflow_id),
            ("ce_causationid", cause),
        ),
        task.reply_to.partition,
    )


def decode_reply(record: Record) -> ResultReceived | SignReceived:
    """A result, or a sign of life.

    Raises `MalformedRecord`, which names the record and what is wrong with it.
    """
    try:
        return decode_result(record)
    except MalformedRecord:
        sign = _sign(record)
        if sign is None:
            raise
        return sign


def _sign(record: Record) -> SignReceived | None:
    """The sign of life that this is, if it is one. Raises `MalformedRecord`."""
    try:
        sign = _sign_decoder.decode(record.value or b"")
    except exact_json.DECODE_ERRORS:
        return None
    _check_ids(record, sign)
    return sign


def decode_result(record: Record) -> ResultReceived:
    """Raises `MalformedRecord`, which names the record and what is wrong with it."""
    if record.value is None:
        raise MalformedRecord(f"the result record {_place(record)} has no value")
    try:
        result = _result_decoder.decode(record.value)
        # the output is nearly all of it, and is found as bytes; a hand-over, or what is to be
        # approved, has its value elsewhere
        if result.handover is None and result.approval is None:
            exact_json.check_part(record.value, result.output, after=_BEFORE_OUTPUT)
        else:
            exact_json.check(record.value)
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(_no_result(record, str(error))) from error
    if result.error is None and result.status == "failed":
        raise MalformedRecord(_no_result(record, "`status` is failed and `error` is not there"))
    if result.error is not None and result.status != "failed":
        raise MalformedRecord(_no_result(record, f"`status` is {result.status} and there is an `error`"))
    if (result.handover is not None) != (result.status == "handed_over"):
        raise MalformedRecord(_no_result(record, "`handover` goes with the `status` handed_over, and with no other"))
    if (result.approval is not None) != (result.status == APPROVAL_WANTED):
        raise MalformedRecord(
            _no_result(record, "`approval` goes with the `status` approval_wanted, and with no other")
        )
    _check_ids(record, result)
    return result


def _check_ids(record: Record, reply: ResultReceived | SignReceived) -> None:
    # the owner finds the workflow by one id and the step by the other, so they must agree
    if reply.attempt < 1 or not reply.task_id.startswith(reply.workflow_id + "/"):
        raise MalformedRecord(_no_result(record, "`task_id`, `attempt` and `workflow_id` are not those of one task"))


def _no_result(record: Record, trouble: str) -> str:
    return f"the record {_place(record)} is not a result: {trouble} (topics/schemas/result.json has the form)"


def _place(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


_LAST_MS: Final = 253_402_300_799_000  # the year 9999, the end of RFC 3339


# the decisions of a batch have one time, and their tasks few time-outs
@lru_cache(maxsize=256)
def _utc(at_ms: int) -> datetime:
    return datetime.fromtimestamp(min(at_ms, _LAST_MS) / 1000, UTC)
