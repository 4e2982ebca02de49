"""What happened in a run, for people: a time, who, what.

Owns the writing down. It keeps raw values and formats them only when somebody reads, since most
runs succeed and nobody reads them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import structlog

from mesh.core.events import Decision, Event, OwnerChanged
from mesh.errors import MeshError
from mesh.ports import Record
from mesh.testing.virtual_time.incarnation import current_incarnation

_NOT_SHOWN = frozenset({"log_level", "exc_info", "instance", "event"})
_MAX_CHARS = 220


class _Line(NamedTuple):
    at_s: float
    who: str
    what: str | Record | Mapping[str, Any]


class Transcript:
    """The transcript of a run.

    `now_s` gives the run's time. The simulated process that is running is named as the speaker.
    """

    def __init__(self) -> None:
        self.now_s: Callable[[], float] = lambda: 0.0
        self._lines: list[_Line] = []

    def note(self, who: str, what: str) -> None:
        self._lines.append(_Line(self.now_s(), who, what))

    def landed(self, record: Record) -> None:
        self._lines.append(_Line(self.now_s(), "broker", record))

    def lines(self) -> Iterator[str]:
        for line in self._lines:
            text = _text(line.what)
            if text:
                yield f"{line.at_s:9.3f}  {line.who:<12} {text[:_MAX_CHARS]}"

    @contextmanager
    def services_speak(self) -> Iterator[None]:
        """A context in which what services log goes into this transcript and nowhere else."""
        before = structlog.get_config()
        structlog.configure(
            processors=[self._take],
            wrapper_class=structlog.BoundLogger,
            context_class=dict,
            logger_factory=structlog.ReturnLoggerFactory(),
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            structlog.configure(**before)

    def _take(self, _: Any, level: str, event: Mapping[str, Any]) -> str:
        self._lines.append(_Line(self.now_s(), _who(), {**event, "log_level": level}))
        return ""


def _who() -> str:
    incarnation = current_incarnation()
    return incarnation.name if incarnation is not None else "world"


def _text(what: str | Record | Mapping[str, Any]) -> str:
    if isinstance(what, str):
        return what
    if isinstance(what, Record):
        return _record(what)
    named = " ".join(f"{name}={value}" for name, value in what.items() if name not in _NOT_SHOWN)
    return f"{what['log_level']}: {what['event']} {named}"


def _record(record: Record) -> str:
    place = f"{record.topic}/{record.partition}/{record.offset}"
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    if headers.get("ce_type", "").startswith("mesh.log."):
        return f"{place} {_log_record(record)}"
    about = headers.get("ce_causationid") or headers.get("ce_id", "")
    kind = headers.get("ce_type", "")
    try:
        value = msgspec.json.decode(record.value or b"null")
    except msgspec.DecodeError:
        value = None
    more = ""
    if isinstance(value, dict):
        shown = ("status", "code", "verdict", "decision", "by", "command", "step", "attempt")
        more = " ".join(f"{name}={value[name]}" for name in shown if name in value)
    return f"{place} {kind} {about} {more}"


def _log_record(record: Record) -> str:
    from mesh.codec.log import decode_log_record  # noqa: PLC0415 - only where somebody reads

    try:
        logged = decode_log_record(record)
    except MeshError as error:
        return str(error)
    if isinstance(logged, OwnerChanged):
        return f"OWNER {logged.owner} token={logged.token[:6]}"
    assert isinstance(logged, Decision)
    events = ", ".join(map(_event, logged.events))
    places = ",".join(f"{topic.rsplit('.', 1)[-1]}:{offset}" for topic, offset in logged.positions.items())
    return f"epoch={logged.epoch[:6]} {logged.workflow_id} because {logged.cause.kind} {logged.cause.id}: {events} [{places} mark:{logged.mark}]"


def _event(event: Event) -> str:
    step: str = getattr(event, "step", "")
    return f"{type(event).__name__}({step})" if step else type(event).__name__
