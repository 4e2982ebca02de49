"""What a notifier counts: notices, by what became of them."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from mesh.codec.notices import Notice
from mesh.metrics import names
from mesh.metrics.meters import Meters
from mesh.notifier.notifier import Told

_STATUSES: Final = {"sent": "delivered"}


def counted_by(meters: Meters | None) -> Told:
    """What counts notices that have come to their end; without meters nothing does."""
    return partial(_count, meters) if meters is not None else _pass


def _count(meters: Meters, notices: Sequence[Notice]) -> None:
    for notice in notices:
        meters.count(names.NOTICES, (notice.channel, _STATUSES.get(notice.status, notice.status)))


def _pass(_: Sequence[Notice]) -> None:
    """Metrics are off."""
