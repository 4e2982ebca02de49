"""Logs and traces: how a process says what it does.

Owns the set-up of structlog and of OpenTelemetry, and the names that spans and their attributes
have. It must not decide what is worth a log line or a span: the router, the agent runtime and the
command line do, and they are its callers. The pure core neither logs nor traces.

Traces
------
A span's id in the mesh is a function of the decision that opened it (`mesh.core.ids.span_id`):
`TaskDispatched.traceparent` names the span of that attempt before anybody has started it, so the
router, the agent and a replay agree on it without speaking to each other. The spans of one run are
therefore a tree that is known beforehand:

    upstream's span                          from the event's own traceparent, if it sent one
      └─ invoke_workflow <route>             the run, root otherwise
           ├─ send mesh.tasks.<agent>        one attempt, dispatch to result; the task's traceparent
           │    │                            has its id
           │    └─ process mesh.tasks.<agent>   the agent's own part of it
           └─ send mesh.approvals.requests   one approval, question to verdict

What took more than an hour, such as an approval that waited for a day, is two short spans: the
promised one where it began, and one of its end, which links to it. Trace stores do not find what is
under way for days, and their pictures of it show nothing.

`record_span` emits one that is over, with exactly the ids it was promised. `live_span` opens one
around running code, so that what the code does itself (HTTP calls, model calls) hangs beneath it.
With tracing off both do nothing, and OpenTelemetry's SDK is not even imported.

Names follow the OpenTelemetry semantic conventions for messaging (1.44) and for generative AI, both
in development there.
"""

import io
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

import structlog

from mesh.codec.cloudevents import TraceContext, parse_traceparent

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.trace import Link, SpanContext
    from opentelemetry.trace import Tracer as OtelTracer

LogFormat = Literal["auto", "console", "json"]
TraceExporter = Literal["off", "console", "otlp"]
SpanKind = Literal["internal", "producer", "consumer", "client", "server"]
Attributes = Mapping[str, str | int | float | bool]

NS_PER_MS = 1_000_000

# What a log line above DEBUG must not hold, and what none may hold.
PAYLOAD_KEYS = frozenset({"payload", "input", "output", "data", "value", "body", "cloud_event"})
SECRET_KEYS = frozenset({"authorization", "api_key", "password", "secret", "sasl_password"})

_QUIET_S = 10.0  # between two lines of a library that say the same
_KEPT_LINES = 1_000
_UNWRITABLE_S = 5.0  # between two tries at a stream that takes nothing


# Logs ---------------------------------------------------------------------------------------------


def configure_logging(*, level: str = "info", log_format: LogFormat = "auto", stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging, once for a process.

    Both write to `stream` (standard error by default). `auto` is coloured lines on a terminal and
    JSON lines anywhere else. `workflow_id`, `step` and `agent` come from
    `structlog.contextvars.bound_contextvars` or from the call. Raises `ValueError` for an unknown
    level.
    """
    out = stream or sys.stderr
    number = _level_number(level)
    console = log_format == "console" or (log_format == "auto" and out.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
        _without_secrets,
        _with_trace,
    ]
    if number > logging.DEBUG:
        shared.append(_without_payloads)
    lines = cast("TextIO", _Lines(out, as_json=not console))
    last = _renderers(console=console, colors=_has_colours(out))
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=lines),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    handler.addFilter(_Repeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # libraries are heard when something is wrong, ours from `level` on
    root.setLevel(max(number, logging.WARNING))


def _has_colours(out: TextIO) -> bool:
    """Whether to use colours, by the conventions of no-color.org and force-color.org.

    `mesh dev` passes its terminal's choice on to its children.
    """
    return not os.environ.get("NO_COLOR") and (out.isatty() or bool(os.environ.get("FORCE_COLOR")))


class _Lines:
    """Writes log lines, and loses those that can't be written.

    A full disk, or a reader that has gone, must not end a service or keep it busy. After a failure
    nothing is written for a while; the first line that goes out again says how many were lost.
    """

    def __init__(self, out: TextIO, *, as_json: bool) -> None:
        self._out = out
        # behind Python's buffers, which would try what they hold once more at the end
        raw = getattr(getattr(out, "buffer", None), "raw", None)
        self._raw = raw if isinstance(raw, io.FileIO) else None
        self._as_json = as_json
        self._lost = 0
        self._again_s = 0.0

    def write(self, text: str) -> int:
        if self._lost and time.monotonic() < self._again_s:
            self._lost += 1
            return len(text)
        try:
            self._put(self._loss() + text if self._lost else text)
        except (OSError, ValueError):  # a closed stream is a ValueError
            self._lost += 1
            self._again_s = time.monotonic() + _UNWRITABLE_S
        else:
            self._lost = 0
        return len(text)

    def flush(self) -> None:
        """Do nothing: each line is flushed as it is written."""

    def _put(self, text: str) -> None:
        if self._raw is None:
            self._out.write(text)
            self._out.flush()
            return
        left = memoryview(text.encode(errors="backslashreplace"))
        while left:
            left = left[self._raw.write(left) or 0 :]

    def _loss(self) -> str:
        if self._as_json:
            return json.dumps({"level": "warning", "message": "log_lines_lost", "count": self._lost}) + "\n"
        return f"log_lines_lost count={self._lost}: they could not be written\n"


class _Repeats(logging.Filter):
    """Passes a library's message once in `_QUIET_S`.

    A library that tries to connect ten times a second must not bury what we say about it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        said, now = (record.name, record.getMessage()), record.created
        if now - self._said.get(said, -_QUIET_S) < _QUIET_S:
            return False
        if len(self._said) >= _KEPT_LINES:
            self._said.clear()
        self._said[said] = now
        return True


def _level_number(level: str) -> int:
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"no log level is called {level!r}: use debug, info, warning or error")
    return number


def _renderers(*, console: bool, colors: bool) -> list[structlog.typing.Processor]:
    """Renderers whose tracebacks have no local variables.

    structlog's defaults print them for each frame, and they hold payloads and secrets.
    """
    if console:
        return [
            structlog.dev.ConsoleRenderer(
                colors=colors, pad_event_to=32, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    return [
        structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
        structlog.processors.EventRenamer("message", "event"),
        structlog.processors.JSONRenderer(),
    ]


def _without_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in SECRET_KEYS & event.keys():
        event[key] = "***"
    return event


def _with_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say in which span the line was written, if it was in one."""
    # where nothing has loaded it, there is no span; and a log line must not be what loads it
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        ids = trace.get_current_span().get_span_context()
        if ids.is_valid:
            event["trace_id"], event["span_id"] = f"{ids.trace_id:032x}", f"{ids.span_id:016x}"
    return event


def _without_payloads(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in PAYLOAD_KEYS & event.keys():
        del event[key]
    return event


# Traces -------------------------------------------------------------------------------------------


class Tracer:
    """An open way for spans to leave this process.

    Made by `setup_tracing` or `tracer_to`; `shutdown` sends what is left.
    """

    def __init__(self, provider: "TracerProvider", ids: "_GivenIds") -> None:
        self._provider = provider
        self._ids = ids
        self.otel: OtelTracer = provider.get_tracer("mesh")

    @property
    def ids(self) -> "_GivenIds":
        return self._ids

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Send what has been recorded so far; false if that took too long."""
        return self._provider.force_flush(int(timeout_s * 1_000))

    def shutdown(self) -> None:
        """Send what is left, and stop. Blocks for as long as the exporter does; call it last."""
        self._provider.shutdown()


class _GivenIds:
    """Gives OpenTelemetry the ids that were set; random ones otherwise.

    The SDK asks for ids inside `start_span`, in the caller's thread, so it gets what was set just
    before.
    """

    def __init__(self, otherwise: "IdGenerator") -> None:
        self._otherwise = otherwise
        self._given = threading.local()

    @contextmanager
    def given(self, ids: TraceContext) -> Iterator[None]:
        self._given.value = ids
        try:
            yield
        finally:
            self._given.value = None

    def generate_span_id(self) -> int:
        given: TraceContext | None = getattr(self._given, "value", None)
        return int(given.span_id, 16) if given else self._otherwise.generate_span_id()

    def generate_trace_id(self) -> int:
        given: TraceContext | None = getattr(self._given, "value", None)
        return int(given.trace_id, 16) if given else self._otherwise.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """What the SDK asks before it sets the `random` flag.

        Ours are hashes of ids, so they are not random in the sense of level 2 of the specification.
        """
        return False


def setup_tracing(
    service_name: str, *, exporter: TraceExporter = "off", endpoint: str | None = None, stream: TextIO | None = None
) -> Tracer | None:
    """Open the way for this process's spans.

    None (off) costs nothing: the SDK is not imported. `otlp` sends OTLP over HTTP in batches to
    `endpoint` (e.g. `http://localhost:4318`; else OpenTelemetry's own environment variables apply).
    `console` writes one JSON object a line to `stream` (standard error by default).
    """
    match exporter:
        case "off":
            return None
        case "console":
            return tracer_to(_console_exporter(stream or sys.stderr), service_name)
        case "otlp":
            return tracer_to(_otlp_exporter(endpoint), service_name)


def tracer_to(exporter: "SpanExporter", service_name: str, *, batch: bool = True) -> Tracer:
    """A tracer that sends to a given exporter.

    With `batch` false it sends each span at once (for tests).
    """
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - tracing that is off must not pay for the SDK
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator  # noqa: PLC0415 - as above

    class GivenIds(_GivenIds, IdGenerator):
        """The SDK's own class as a parent, for its sake."""

    ids = GivenIds(RandomIdGenerator())
    provider = TracerProvider(
        resource=Resource.create({"service.name": service_name}), id_generator=ids, shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(exporter) if batch else SimpleSpanProcessor(exporter))
    return Tracer(provider, ids)


def _console_exporter(stream: TextIO) -> "SpanExporter":
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415 - tracing that is off must not pay for it

    return ConsoleSpanExporter(out=stream, formatter=lambda span: span.to_json(indent=None) + "\n")


def _otlp_exporter(endpoint: str | None) -> "SpanExporter":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - as above

    if endpoint is None:
        return OTLPSpanExporter()
    return OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")


def record_span(
    tracer: Tracer | None,
    *,
    name: str,
    traceparent: str,
    start_ms: float,
    end_ms: float,
    parent_span_id: str | None = None,
    attributes: Attributes | None = None,
    kind: SpanKind = "internal",
    links: Sequence[str] = (),
    error: str | None = None,
) -> None:
    """Emit a span that is over, with exactly the trace id and span id of `traceparent`.

    `parent_span_id`: 16 hexadecimal digits in the same trace; None makes it the root. `links`:
    traceparents of related spans. Times are milliseconds since the epoch. `error`: why it failed.
    Does nothing without a tracer, or for an invalid or unsampled traceparent.
    """
    ids = parse_traceparent(traceparent) if tracer is not None else None
    if tracer is None or ids is None or not ids.sampled:
        return
    from opentelemetry.trace import SpanKind as OtelKind  # noqa: PLC0415 - tracing that is off must not pay for it
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - as above

    with tracer.ids.given(ids):
        span = tracer.otel.start_span(
            name,
            context=_parent(ids, parent_span_id),
            kind=OtelKind[kind.upper()],
            attributes=attributes,
            links=_links(links),
            start_time=int(start_ms * NS_PER_MS),
        )
    if error is not None:
        span.set_status(Status(StatusCode.ERROR, error))
    span.end(int(max(start_ms, end_ms) * NS_PER_MS))


def live_span(
    tracer: Tracer | None,
    *,
    name: str,
    traceparent: str | None,
    attributes: Attributes | None = None,
    kind: SpanKind = "consumer",
) -> AbstractContextManager[object]:
    """A span around running code, beneath the span that `traceparent` names.

    It is current inside, so that other spans nest in it. Does nothing without a tracer.
    """
    if tracer is None:
        return nullcontext()
    from opentelemetry.trace import SpanKind as OtelKind  # noqa: PLC0415 - tracing that is off must not pay for it

    ids = parse_traceparent(traceparent)
    return tracer.otel.start_as_current_span(
        name, context=_parent(ids, ids.span_id) if ids else None, kind=OtelKind[kind.upper()], attributes=attributes
    )


def _span_context(ids: TraceContext) -> "SpanContext":
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415 - tracing that is off must not pay for it

    return SpanContext(
        int(ids.trace_id, 16), int(ids.span_id, 16), is_remote=True, trace_flags=TraceFlags(int(ids.sampled))
    )


def _parent(ids: TraceContext, parent_span_id: str | None) -> Any:
    from opentelemetry.context import Context  # noqa: PLC0415 - tracing that is off must not pay for it
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context  # noqa: PLC0415 - as above

    if parent_span_id is None:
        return Context()
    return set_span_in_context(NonRecordingSpan(_span_context(ids._replace(span_id=parent_span_id))), Context())


def _links(traceparents: Sequence[str]) -> "list[Link]":
    from opentelemetry.trace import Link  # noqa: PLC0415 - tracing that is off must not pay for it

    return [Link(_span_context(ids)) for ids in map(parse_traceparent, traceparents) if ids is not None]
