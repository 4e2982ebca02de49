"""Events that kill each router whose ingress reads them, as `kill -9` would.

Owns what they look like. `Plan.deadly` says how many there are; `world` and `parties` call it.
"""

from collections.abc import Iterator
from typing import Any, Final

from mesh.codec.cloudevents import from_record
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Record
from mesh.services.router.router import Router
from mesh.testing.simulation.heavy import MANY
from mesh.testing.virtual_time.incarnation import Incarnation

DEADLY: Final = "sim.deadly"
"""Their type. No route wants it."""


def deadly_event(number: int) -> dict[str, Any]:
    data = {"many": [*range(MANY)]}
    return {"specversion": "1.0", "id": f"deadly-{number}", "source": "/sim", "type": DEADLY, "data": data}


def is_deadly(record: Record) -> bool:
    try:
        return bool(from_record(record)["type"] == DEADLY)
    except MalformedRecord:
        return False


def make_mortal(router: Router, incarnation: Incarnation, topics: Topics) -> None:
    """Let this router die when it looks at such an event."""
    honest = router.ingress.converters[topics.events]

    def convert(record: Record) -> Iterator[Any]:
        if is_deadly(record):
            incarnation.kill()
            return iter(())
        return honest(record)

    router.ingress.converters[topics.events] = convert
