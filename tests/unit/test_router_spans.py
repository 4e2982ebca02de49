"""The router's spans: one for what was short, and two that are linked for what took long."""

import pytest
from one_partition import START_MS, Partition, agent, approval, route
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mesh.core.events import Event
from mesh.core.inputs import Input
from mesh.core.topics import Topics
from mesh.observability import tracer_to
from mesh.services.router.spans import LONG_MS, RouterSpans, Traced

ASK = "send mesh.approvals.requests"


class Heard(Partition):
    """Keeps the inputs that it was given."""

    def give(self, given: Input) -> tuple[Event, ...]:
        self.given = given
        return super().give(given)


def spans_after(waited_ms: int) -> dict[str, ReadableSpan]:
    """Of a run whose approval was answered after this time."""
    exporter = InMemorySpanExporter()
    spans = RouterSpans(tracer_to(exporter, "test", batch=False), Topics())
    p = Heard(route({"draft": agent("drafter"), "review": approval(needs="draft")}))
    p.start()
    p.succeed("draft")
    before = p.workflow()
    p.now_ms += waited_ms
    p.answer()
    spans.record([Traced(p.decisions[-1], p.given, before, p.workflow())])
    return {span.name: span for span in exporter.get_finished_spans()}


def test_what_was_short_is_one_span_from_its_beginning_to_its_end() -> None:
    found = spans_after(60_000)
    assert set(found) == {ASK, "invoke_workflow r"}
    ask = found[ASK]
    assert ask.start_time is not None
    assert ask.end_time is not None
    assert ask.end_time - ask.start_time >= 60_000 * 1_000_000
    assert not ask.links


@pytest.mark.parametrize("name", [ASK, "invoke_workflow r"])
def test_what_took_long_is_two_short_spans_and_the_end_links_to_the_beginning(name: str) -> None:
    found = spans_after(3 * 86_400_000)
    assert set(found) == {ASK, f"{ASK} ended", "invoke_workflow r", "invoke_workflow r ended"}
    begun, ended = found[name], found[f"{name} ended"]
    for span in (begun, ended):
        assert span.start_time == span.end_time
    assert begun.context is not None
    assert ended.context is not None
    assert [link.context.span_id for link in ended.links] == [begun.context.span_id]
    assert ended.context.trace_id == begun.context.trace_id
    assert begun.start_time is not None
    assert ended.start_time is not None
    assert ended.start_time - begun.start_time > LONG_MS * 1_000_000
    assert begun.start_time >= START_MS * 1_000_000
    # the same parent, so both are where people look for them
    assert (begun.parent and begun.parent.span_id) == (ended.parent and ended.parent.span_id)


def test_the_beginning_has_the_id_that_was_promised() -> None:
    short, long = spans_after(60_000), spans_after(3 * 86_400_000)
    for name in short:
        one, other = short[name].context, long[name].context
        assert one is not None
        assert other is not None
        assert one.span_id == other.span_id
