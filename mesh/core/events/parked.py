"""Inputs that changed nothing or were set aside, and effects that could not be sent."""

from mesh.core.events.event import LogEvent


class EffectUndeliverable(LogEvent, tag="EffectUndeliverable.1", frozen=True, kw_only=True):
    """A record that is not a task could not be sent, and never will be.

    A task that could not be sent is a `TaskFailed` of kind `undeliverable`.
    """

    effect_id: str
    topic: str
    code: str
    message: str


class InputDismissed(LogEvent, tag="InputDismissed.1", frozen=True, kw_only=True):
    """An input changes nothing.

    It is a repeated or late result, or a record for an unknown workflow.
    """

    code: str  # repeated, late, unknown, closed
    message: str


class InputParked(LogEvent, tag="InputParked.1", frozen=True, kw_only=True):
    """An input that could not be processed, whole, as it came; it also goes to the dead letters."""

    code: str
    message: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: str | None  # base64
    value: str | None  # base64
    headers: list[tuple[str, str]]  # values in base64


class InputAttempted(LogEvent, tag="InputAttempted.1", frozen=True, kw_only=True):
    """Written before an input that may have killed earlier owners is touched.

    If this owner dies too, the next one parks the input.
    """

    topic: str
    offset: int
