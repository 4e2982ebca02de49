"""One task through one agent's handler.

Input from JSON, the call, output to JSON, and what each failure means for a retry.

Owns the mapping of failures to `TaskError`. It must not know a broker: bytes come in a `Task`,
bytes or an error go out. Time limits and cancelling are the runtime's, which is its only caller.
"""

import asyncio
from collections.abc import Awaitable, Callable
from math import isfinite
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from mesh.agent.approval import ApprovalNeeded
from mesh.agent.context import Context
from mesh.agent.definition import Agent
from mesh.agent.handover import HandOver
from mesh.agent.retry import Retry
from mesh.codec import exact_json
from mesh.codec.tasks import APPROVAL_WANTED, Task
from mesh.core import inputs
from mesh.core.inputs import TaskError
from mesh.core.tool_approvals import Wanted
from mesh.errors import NonRetryable
from mesh.observability import Tracer, live_span
from mesh.services.agent_runtime.limits import CANCELLED, MAX_FIELDS, MAX_KIND_CHARS, MAX_MESSAGE_CHARS
from mesh.services.agent_runtime.threads import DaemonThreads

Answer = bytes | TaskError | inputs.HandOver | Wanted


class AgentCall:
    """Calls one agent. `threads`: for a handler that is a plain function."""

    def __init__(self, agent: Agent[Any, Any], *, threads: DaemonThreads, tracer: Tracer | None = None) -> None:
        self._agent = agent
        self._handler: Callable[..., Any] = agent.handler
        self._takes_context = agent.takes_context
        # the adapter's own methods pass on a dozen arguments: half the cost of a small value
        self._validate_input = agent.input_adapter.validator.validate_json
        self._validate_output = agent.output_adapter.validator.validate_python
        self._dump = agent.output_adapter.serializer.to_json
        self._plain = agent.output_adapter.serializer.to_python
        self._is_plain = _is_plain(agent.output_adapter.core_schema)
        self._threads = threads
        self._tracer = tracer
        self._call: Callable[..., Awaitable[Any]] = self._handler if agent.is_async else self._in_thread

    async def answer(
        self, task: Task, beat: Callable[[], None] | None = None, usage: dict[str, float] | None = None
    ) -> Answer:
        """The output as JSON, or why there is none, who does it instead, or what must be approved.

        Raises nothing but `CancelledError`.

        `beat`: what a heartbeat of the handler calls. `usage`: where it puts what it takes.
        """
        try:
            value = self._validate_input(bytes(task.input))
        except Exception as error:  # noqa: BLE001 - a validator may raise anything; it judged the input, so no retry helps
            return TaskError(kind="input_invalid", message=self._shape("input", error), retryable=False)
        wanted: list[Wanted] = []
        try:
            answer = await self._answer(task, value, beat, usage, wanted)
        # it may come alone, or in the group that a `TaskGroup` of the handler makes
        except ApprovalNeeded as error:
            # one that `approve` has not raised says nothing that could be asked
            answer = error_of(error)
        except BaseExceptionGroup:
            if not wanted:
                raise
        # whatever the handler made of it: it asked, and so must not be taken to be done
        return _asked(wanted[0]) if wanted else answer

    async def _answer(
        self,
        task: Task,
        value: Any,
        beat: Callable[[], None] | None,
        usage: dict[str, float] | None,
        wanted: list[Wanted],
    ) -> Answer:
        """Call the handler with its input."""
        try:
            if self._takes_context:
                output = await self._call(value, self._context(task, beat, usage, wanted))
            else:
                output = await self._call(value)
        except HandOver as passed_on:
            return self._handed_over(passed_on)
        # also a `sys.exit`: one handler must not end the process, and everything that runs in it
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the handler is somebody else's code: its failures are results
            return error_of(error)
        try:
            return self._exact(self._validate_output(output))
        except Exception as error:  # noqa: BLE001 - as above, of the output
            return TaskError(kind="output_invalid", message=self._shape("output", error), retryable=False)

    async def traced_answer(
        self, task: Task, beat: Callable[[], None] | None = None, usage: dict[str, float] | None = None
    ) -> tuple[Answer, str | None]:
        """Do as `answer` does, in a span below the task's, and return its traceparent too."""
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": self._agent.name,
            "gen_ai.agent.version": self._agent.version,
            "messaging.message.id": task.attempt_id,
            "messaging.message.conversation_id": task.workflow_id,
        }
        name = f"invoke_agent {self._agent.name}"
        with live_span(self._tracer, name=name, traceparent=task.traceparent, attributes=attributes) as span:
            answer = await self.answer(task, beat, usage)
            return answer, _close_span(span, answer)

    async def _in_thread(self, *arguments: Any) -> Any:
        return await self._threads.run(lambda: self._handler(*arguments))

    def _context(
        self,
        task: Task,
        beat: Callable[[], None] | None,
        usage: dict[str, float] | None,
        wanted: list[Wanted],
    ) -> Context:
        return Context(
            agent=task.agent,
            workflow_id=task.workflow_id,
            run_id=task.run_id,
            route=task.route,
            step=task.step,
            task_id=task.task_id,
            attempt=task.attempt,
            idempotency_key=task.idempotency_key,
            deadline=task.deadline_at,
            traceparent=task.traceparent,
            on_heartbeat=beat,
            budget=task.budget or {},
            usage={} if usage is None else usage,
            approvals=task.approvals,
            can_ask=APPROVAL_WANTED in task.accepts,
            wanted=wanted,
        )

    def _handed_over(self, passed_on: HandOver) -> inputs.HandOver | TaskError:
        try:
            value = to_jsonable_python(passed_on.input, by_alias=True)
            exact_json.check_value(value)
        except Exception as error:  # noqa: BLE001 - as of an output
            what = f"input for {passed_on.to}"
            return TaskError(kind="output_invalid", message=self._shape(what, error), retryable=False)
        return inputs.HandOver(to=str(passed_on.to), input=value)

    def _exact(self, output: Any) -> bytes:
        """The output's JSON.

        Raises if a reader would take a part of it for another value.
        """
        if self._is_plain and (made := exact_json.written(output)) is not None:
            return made
        made = self._dump(output, by_alias=True, warnings="error")
        # most handlers give plain values, and then nothing need be read again
        if not exact_json.is_written_as(output, made):
            exact_json.check(made)
        # NaN and the infinities are written so, as a value and as a key
        if b"null" in made or b'"None"' in made:
            exact_json.check_value(self._plain(output, by_alias=True))
        return made

    def _shape(self, what: str, error: Exception) -> str:
        match error:
            case ValidationError():
                trouble = _fields(error)
            case PydanticSerializationError() | exact_json.JsonRefused():
                trouble = str(error)
            case _:
                trouble = f"{type(error).__name__}: {error}"
        return _cut(f"the {what} does not fit agent {self._agent.name!r}: {trouble}", MAX_MESSAGE_CHARS)


def _is_plain(schema: Any) -> bool:
    """Whether values of a type are written as they are: `Any`, and dicts and lists of it.

    `schema`: pydantic-core's.
    """
    match schema:
        case {"serialization": _}:
            return False
        case {"type": "any" | "str"}:
            return True
        case {"type": "dict", "keys_schema": keys, "values_schema": values}:
            return _is_plain(keys) and _is_plain(values)
        case {"type": "list", "items_schema": items}:
            return _is_plain(items)
        case _:
            return False


def _asked(wanted: Wanted) -> Wanted | TaskError:
    """The question, unless its payload would be another value for who reads it."""
    try:
        exact_json.check_value(wanted.payload)
    except exact_json.JsonRefused as error:
        message = _cut(f"the payload of {wanted.name} can't be sent: {error}", MAX_MESSAGE_CHARS)
        return TaskError(kind="approval_invalid", message=message, retryable=False)
    return wanted


def _fields(error: ValidationError) -> str:
    """`title: Field required; labels.0: Input should be a valid string`.

    Never the values themselves, which may be secret.
    """
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    named = [f"{'.'.join(map(str, one['loc'])) or '(the whole)'}: {one['msg']}" for one in errors[:MAX_FIELDS]]
    more = len(errors) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")


def error_of(error: BaseException) -> TaskError:
    """What an exception of a handler comes to."""
    match error:
        case asyncio.CancelledError():
            return CANCELLED
        case NonRetryable():
            return TaskError(kind=_cut(error.kind, MAX_KIND_CHARS), message=_message(error), retryable=False)
        case Retry():
            kind, after_s = _cut(error.kind, MAX_KIND_CHARS), error.after_s if isfinite(error.after_s) else None
            return TaskError(kind=kind, message=_message(error), retry_after_s=after_s)
        case _:
            return TaskError(kind=_cut(type(error).__name__, MAX_KIND_CHARS), message=_message(error))


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception whose own text can't be made must not pass for another failure
        text = ""
    return _cut(text or type(error).__name__, MAX_MESSAGE_CHARS)


def _cut(text: str, limit: int) -> str:
    whole = text.encode("utf-8", "replace").decode()  # lone surrogates can't be sent
    return whole if len(whole) <= limit else whole[: limit - 1] + "…"


def _close_span(span: Any, answer: Answer) -> str | None:
    """Note a failure on the span, and return its traceparent; None if nothing is recorded."""
    from opentelemetry.trace import Span, Status, StatusCode  # noqa: PLC0415 - tracing that is off must not pay for it

    if not isinstance(span, Span) or not span.get_span_context().is_valid:
        return None
    if isinstance(answer, TaskError):
        span.set_attribute("error.type", answer.kind)
        span.set_status(Status(StatusCode.ERROR, answer.message))
    ids = span.get_span_context()
    return f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{int(ids.trace_flags):02x}"
