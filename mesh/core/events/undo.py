"""Compensation: what was done is undone before the workflow ends."""

from typing import Literal

from mesh.core.events.event import LogEvent


class CompensationStarted(LogEvent, tag="CompensationStarted.1", frozen=True, kw_only=True):
    """The workflow ends as `status` once `steps` are undone, in this order.

    Logged again when an operator gives up one of them. `steps` are then the ones left, perhaps
    none.
    """

    status: Literal["failed", "rejected", "cancelled"]
    reason: str
    steps: tuple[str, ...]
