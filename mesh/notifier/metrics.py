"""What a notifier counts: notices, by what became of them."""

from collections.abc import Sequence
from functools import partial
from typing import Final, get_args

from mesh.codec.channels import ChannelKind
from mesh.codec.notices import Notice
from mesh.metrics import names
from mesh.metrics.meters import Meters
from mesh.notifier.notifier import Told

_ENDS: Final = ("delivered", "undelivered", "dropped")
_STATUSES: Final = {"sent": "delivered"}


def counted_by(meters: Meters | None) -> Told:
    """What counts notices that have come to their end; without meters nothing does."""
    if meters is None:
        return _pass
    # Prometheus sees no increase in a series that begins at 1
    meters.put(names.NOTICES, {(kind, status): 0 for kind in get_args(ChannelKind) for status in _ENDS})
    return partial(_count, meters)


def _count(meters: Meters, notices: Sequence[Notice]) -> None:
    for notice in notices:
        meters.count(names.NOTICES, (notice.channel, _STATUSES.get(notice.status, notice.status)))


def _pass(_: Sequence[Notice]) -> None:
    """Metrics are off."""
