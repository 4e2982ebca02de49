"""Logs say what they should and no more; spans have exactly the ids that the decisions promised."""

import errno
import io
import json
import logging
import subprocess
import sys
import time

import pytest
import structlog
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from mesh import observability
from mesh.observability import (
    LogFormat,
    Tracer,
    configure_logging,
    live_span,
    record_span,
    setup_tracing,
    tracer_to,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Tracer:
    return tracer_to(exporter, "mesh-test", batch=False)


def log_lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(autouse=True)
def _restore_logging() -> object:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    return None


def test_a_log_line_is_json_where_no_terminal_listens_and_holds_the_bound_ids(stream: io.StringIO) -> None:
    configure_logging(stream=stream)
    with structlog.contextvars.bound_contextvars(workflow_id="r:k", step="draft"):
        structlog.get_logger().info("task_dispatched", agent="drafter")
    [line] = log_lines(stream)
    assert line["message"] == "task_dispatched"
    assert (line["workflow_id"], line["step"], line["agent"], line["level"]) == ("r:k", "draft", "drafter", "info")


def test_payloads_appear_at_debug_alone_and_secrets_never(stream: io.StringIO) -> None:
    configure_logging(stream=stream)
    structlog.get_logger().info("task_dispatched", payload={"body": "private"}, api_key="k")
    configure_logging(stream=stream, level="debug")
    structlog.get_logger().debug("task_dispatched", payload="shown", api_key="k")
    quiet, loud = log_lines(stream)
    assert "payload" not in quiet
    assert loud["payload"] == "shown"
    assert quiet["api_key"] == loud["api_key"] == "***"


def test_a_library_that_warns_through_logging_is_heard_in_the_same_form(stream: io.StringIO) -> None:
    configure_logging(stream=stream)
    logging.getLogger("somebody").warning("lost %s", "it")
    logging.getLogger("somebody").info("chatter")
    [line] = log_lines(stream)
    assert (line["message"], line["logger"], line["level"]) == ("lost it", "somebody", "warning")


def test_a_line_in_a_span_names_the_span_and_no_other_does(
    stream: io.StringIO, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    configure_logging(stream=stream)
    log = structlog.get_logger()
    log.info("before")
    with live_span(tracer, name="work", traceparent=TRACEPARENT):
        log.info("inside")
        logging.getLogger("library").warning("inside, too")
    log.info("after")
    before, inside, library, after = log_lines(stream)
    [span] = exporter.get_finished_spans()
    assert span.context is not None
    for line in (inside, library):
        assert (line["trace_id"], line["span_id"]) == (TRACE, f"{span.context.span_id:016x}")
    for line in (before, after):
        assert not {"trace_id", "span_id"} & line.keys()


def test_a_console_line_names_the_event_and_its_ids(stream: io.StringIO) -> None:
    configure_logging(stream=stream, log_format="console")
    structlog.get_logger().warning("task_timed_out", workflow_id="r:k")
    assert "task_timed_out" in stream.getvalue()
    assert "workflow_id=r:k" in stream.getvalue()


def _fail_with_locals() -> None:
    payload = {"body": "private-words"}
    api_key = "sk-12345"
    raise RuntimeError(f"no answer after {len(payload) + len(api_key)} attempts")


@pytest.mark.parametrize("log_format", ["console", "json"])
@pytest.mark.parametrize("said_by", ["ours", "a library"])
def test_a_traceback_names_the_place_but_never_prints_what_variables_hold(
    stream: io.StringIO, log_format: LogFormat, said_by: str
) -> None:
    configure_logging(stream=stream, log_format=log_format, level="debug")
    try:
        _fail_with_locals()
    except RuntimeError:
        if said_by == "ours":
            structlog.get_logger().exception("call_failed")
        else:
            logging.getLogger("somebody").exception("call failed")
    said = stream.getvalue()
    assert "_fail_with_locals" in said
    assert "no answer after" in said
    assert "private-words" not in said
    assert "sk-12345" not in said


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="loudest"):
        configure_logging(level="loudest")


def test_a_library_that_repeats_itself_is_heard_once_in_a_while(stream: io.StringIO) -> None:
    configure_logging(log_format="json", stream=stream)
    library = logging.getLogger("somebody.conn")
    for _ in range(50):
        library.error("Unable connect to %s", "nowhere:9092")
    library.error("Unable connect to %s", "elsewhere:9092")
    assert [json.loads(line)["message"].split()[-1] for line in stream.getvalue().splitlines()] == [
        "nowhere:9092",
        "elsewhere:9092",
    ]


def test_a_recorded_span_has_exactly_the_promised_ids_and_times(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    record_span(
        tracer,
        name="send mesh.tasks.drafter",
        traceparent=TRACEPARENT,
        parent_span_id=PARENT,
        start_ms=1_000,
        end_ms=1_250.5,
        kind="producer",
        attributes={"messaging.system": "kafka"},
        links=[f"00-{TRACE}-{PARENT}-01", "rubbish"],
        error="timeout",
    )
    [span] = exporter.get_finished_spans()
    assert span.context is not None
    assert span.parent is not None
    assert (span.context.trace_id, span.context.span_id) == (int(TRACE, 16), int(SPAN, 16))
    assert (span.parent.trace_id, span.parent.span_id) == (int(TRACE, 16), int(PARENT, 16))
    assert (span.start_time, span.end_time) == (1_000_000_000, 1_250_500_000)
    assert span.kind is SpanKind.PRODUCER
    assert span.status.status_code is StatusCode.ERROR
    assert len(span.links) == 1


def test_a_root_span_takes_its_trace_id_too(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    record_span(tracer, name="invoke_workflow r", traceparent=TRACEPARENT, start_ms=1, end_ms=2)
    [span] = exporter.get_finished_spans()
    assert span.context is not None
    assert (span.parent, span.context.trace_id, span.context.span_id) == (None, int(TRACE, 16), int(SPAN, 16))


def test_nothing_is_recorded_without_a_tracer_or_for_an_unsampled_trace(
    tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    record_span(None, name="x", traceparent=TRACEPARENT, start_ms=1, end_ms=2)
    record_span(tracer, name="x", traceparent=f"00-{TRACE}-{SPAN}-00", start_ms=1, end_ms=2)
    record_span(tracer, name="x", traceparent="rubbish", start_ms=1, end_ms=2)
    with live_span(None, name="x", traceparent=TRACEPARENT):
        pass
    assert exporter.get_finished_spans() == ()


def test_live_spans_nest_beneath_the_named_one_with_ids_of_their_own(
    tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    with (
        live_span(tracer, name="process mesh.tasks.drafter", traceparent=TRACEPARENT),
        tracer.otel.start_as_current_span("chat m"),
    ):
        pass
    inner, outer = exporter.get_finished_spans()
    assert outer.parent is not None
    assert inner.parent is not None
    assert outer.context is not None
    assert (outer.parent.span_id, outer.context.trace_id) == (int(SPAN, 16), int(TRACE, 16))
    assert inner.parent.span_id == outer.context.span_id not in (0, int(SPAN, 16))


def test_tracing_that_is_off_is_none_and_imports_no_sdk() -> None:
    assert setup_tracing("router", exporter="off") is None
    code = (
        "import sys; from mesh.observability import setup_tracing; assert setup_tracing('x') is None;"
        "print(any(m.startswith('opentelemetry') for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_the_console_exporter_writes_one_json_object_a_line(stream: io.StringIO) -> None:
    tracer = setup_tracing("router", exporter="console", stream=stream)
    assert tracer is not None
    record_span(tracer, name="x", traceparent=TRACEPARENT, start_ms=1, end_ms=2)
    tracer.shutdown()
    [line] = stream.getvalue().splitlines()
    assert json.loads(line)["context"]["span_id"] == "0x" + SPAN


def test_the_otlp_exporter_goes_to_the_given_endpoint() -> None:
    tracer = setup_tracing("router", exporter="otlp", endpoint="http://127.0.0.1:9/")
    assert tracer is not None
    tracer.shutdown()


class Disk(io.StringIO):
    """A stream that is full at times."""

    is_full = False
    tries = 0

    def write(self, text: str) -> int:
        self.tries += 1
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_log_lines_that_cant_be_written_are_lost_and_counted_and_seldom_tried(
    log_format: LogFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, disk = 100.0, Disk()
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    configure_logging(log_format=log_format, stream=disk)
    log = structlog.get_logger()
    disk.is_full = True
    for _ in range(50):
        log.info("lost")
    assert disk.tries == 1, "it backs off"
    now_s += observability._UNWRITABLE_S
    log.info("lost")
    assert disk.tries == 2
    disk.is_full = False
    log.info("lost")
    now_s += observability._UNWRITABLE_S
    log.info("kept")
    log.info("last")
    lines = disk.getvalue().splitlines()
    assert len(lines) == 3
    assert "log_lines_lost" in lines[0]
    assert "52" in lines[0]
    assert "kept" in lines[1]
    assert "last" in lines[2]
