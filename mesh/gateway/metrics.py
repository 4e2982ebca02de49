"""What a gateway counts: requests by how they ended, events, how long it took, and what waits.

Owns the words for the ends of a request. `mesh.gateway.app` says which one it was.
"""

from collections.abc import Iterable
from typing import Final

from mesh.gateway.intake import Intake
from mesh.metrics import names
from mesh.metrics.meters import Meters

ENDS: Final = {
    400: "unreadable",
    401: "unknown_sender",
    403: "forbidden",
    404: "not_found",
    413: "too_large",
    415: "encoded",
    422: "unmapped",
    429: "busy",
    503: "broker_away",
}
"""By the status of the refusal. A 429 may also be `rate`: the sender's own limit."""

ACCEPTED: Final = "accepted"
RATE: Final = "rate"
FAILED: Final = "failed"
KEPT: Final = "kept"
REFUSED: Final = "refused"
_OF_EVENTS: Final = (ACCEPTED, KEPT, REFUSED, "busy", FAILED)


class GatewayMetrics:
    """Counts for one gateway. `senders`: senders and webhooks, as `gateway.yaml` names them."""

    def __init__(self, meters: Meters, intake: Intake, senders: Iterable[str]) -> None:
        self._meters, self._intake = meters, intake
        known = ["", *senders]
        # Prometheus sees no increase in a series that begins at 1
        ends = (ACCEPTED, KEPT, RATE, FAILED, REFUSED, *ENDS.values())
        meters.put(names.GATEWAY_REQUESTS, {(name, end): 0 for name in known for end in ends})
        meters.put(names.GATEWAY_EVENTS, {(name, status): 0 for name in known for status in _OF_EVENTS})

    def ended(self, sender: str, end: str, took_s: float) -> None:
        """A request has ended so. `sender` empty: it is not known, or anybody may send."""
        self._meters.count(names.GATEWAY_REQUESTS, (sender, end))
        self._meters.observe(names.GATEWAY_DURATION, (end,), took_s)

    def told(self, sender: str, status: str, count: int) -> None:
        """So many events of a sender came to this end."""
        self._meters.count(names.GATEWAY_EVENTS, (sender, status), count)

    def sample(self) -> None:
        self._meters.put(names.GATEWAY_WAITING, {(): self._intake.waiting})
        self._meters.put(names.GATEWAY_UP, {(): self._intake.is_up})
