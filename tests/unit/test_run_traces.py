"""What a run carries on of the event that started it: its name, and the context of its trace."""

from typing import Any

import pytest
from one_partition import SOURCE, Partition, agent, called_route, calling, only, route

from mesh.codec.cloudevents import from_record
from mesh.codec.effects import EffectEncoder
from mesh.codec.outcomes import Outcome, decode_outcome
from mesh.core.effects import PublishEvent, PublishOutcome, SendTask
from mesh.core.events import CallMade, WorkflowEnded
from mesh.core.topics import Topics
from mesh.ports import Header, OutRecord, Record

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7"
STATE = "vendor=1,other=t61rcWkgMzE"


def landed(out: OutRecord) -> Record:
    return Record(out.topic, 0, 1, 0, out.key, out.value, out.headers)


def done(**event: Any) -> tuple[PublishOutcome, Outcome, dict[str, bytes]]:
    p = Partition(route({"work": agent("a")}))
    p.start(**event)
    p.succeed("work")
    effect = only(p.effects(), PublishOutcome)
    out = EffectEncoder(Topics(), 0, 1).encode(effect)
    return effect, decode_outcome(landed(out)), dict(out.headers)


def test_an_outcome_names_the_event_that_started_the_run() -> None:
    _, outcome, _ = done(event_id="e7")
    assert (outcome.event_id, outcome.event_source) == ("e7", SOURCE)


@pytest.mark.parametrize(
    ("sent", "flags"),
    [("-00", "00"), ("-01", "01"), ("-02", "00"), ("-03", "01"), ("-ff", "01"), ("-0", "01"), ("", "01")],
)
def test_the_sampled_flag_is_upstreams(sent: str, flags: str) -> None:
    """Without a traceparent that holds, the trace is the mesh's own, and recorded."""
    effect, _, headers = done(traceparent=PARENT + sent)
    assert effect.traceparent.endswith(f"-{flags}")
    assert headers["traceparent"].decode() == effect.traceparent


@pytest.mark.parametrize(
    ("traceparent", "tracestate", "passed"),
    [
        (PARENT + "-01", STATE, STATE),
        (PARENT + "-00", STATE, STATE),
        (PARENT + "-01", "ü", ""),
        (PARENT + "-01", "x" * 513, ""),
        ("nonsense", STATE, ""),
    ],
)
def test_tracestate_is_passed_on_with_the_trace_that_it_belongs_to(
    traceparent: str, tracestate: str, passed: str
) -> None:
    effect, _, headers = done(traceparent=traceparent, tracestate=tracestate)
    assert (effect.tracestate, headers.get("tracestate", b"").decode()) == (passed, passed)


def test_all_that_a_run_sends_has_the_same_flags() -> None:
    p = Partition(route({"work": agent("a")}))
    p.start(traceparent=PARENT + "-00")
    assert only(p.effects(), SendTask).traceparent.endswith("-00")


def test_events_that_a_route_sends_and_workflows_that_it_calls_are_in_the_trace() -> None:
    tell = {"emit": {"type": "told", "data": 1}}
    p = Partition(route({"tell": tell, "ask": calling(needs="tell")}), called_route({"work": agent("a")}))
    p.start(traceparent=PARENT + "-00", tracestate=STATE)
    sent = only(p.effects(), PublishEvent)
    event = from_record(landed(EffectEncoder(Topics(), 0, 1).encode(sent)))
    assert (event["traceparent"][-2:], event["tracestate"]) == ("00", STATE)
    [call] = [one for one in p.decisions[-1].events if isinstance(one, CallMade)]
    assert (call.traceparent[-2:], call.tracestate) == ("00", STATE)
    p.deliver()
    p.succeed("work", key=call.called)
    ended = next(one for one in p.decisions[-1].events if isinstance(one, WorkflowEnded))
    assert (ended.traceparent[-2:], ended.tracestate) == ("00", STATE)
    assert (ended.event_id, ended.event_source) == (call.task_id, "/mesh/workflows/r:k")


@pytest.mark.parametrize(
    ("headers", "state"),
    [
        ((("traceparent", PARENT.encode() + b"-01"), ("TraceState", STATE.encode())), STATE),
        ((("tracestate", STATE.encode()),), None),  # of no trace
        ((("traceparent", PARENT.encode() + b"-01"), ("tracestate", b"\xff")), None),
        ((("ce_traceparent", PARENT.encode() + b"-01"), ("tracestate", STATE.encode())), None),  # of another hop
        ((("ce_traceparent", PARENT.encode() + b"-01"), ("ce_tracestate", STATE.encode())), STATE),
    ],
)
def test_a_plain_tracestate_header_comes_with_a_plain_traceparent(
    headers: tuple[Header, ...], state: str | None
) -> None:
    attributes = (("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/s"), ("ce_type", b"t"))
    event = from_record(Record("mesh.events", 0, 0, 0, None, None, (*attributes, *headers)))
    assert event.get("tracestate") == state
