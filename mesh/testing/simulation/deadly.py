"""Inputs that kill each router that reads them, as `kill -9` would.

Events kill in ingress, and commands for a deadly workflow kill the owner that decides on them. Owns
what they look like. `Plan.deadly` says how many there are; `world` and `parties` call it.
"""

from collections.abc import Iterator
from typing import Any, Final

from mesh.codec.cloudevents import from_record
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Record
from mesh.services.router.owner import Owner
from mesh.services.router.router import Router
from mesh.testing.simulation.heavy import MANY
from mesh.testing.virtual_time.incarnation import Incarnation

DEADLY: Final = "sim.deadly"
"""Their type. No route wants it."""
DEADLY_WORKFLOW: Final = "deadly:"
"""Commands for workflows whose ids begin so kill their owner. There are no such workflows."""


def deadly_event(number: int) -> dict[str, Any]:
    data = {"many": [*range(MANY)]}
    return {"specversion": "1.0", "id": f"deadly-{number}", "source": "/sim", "type": DEADLY, "data": data}


def is_deadly(record: Record) -> bool:
    try:
        return bool(from_record(record)["type"] == DEADLY)
    except MalformedRecord:
        return False


def make_mortal(router: Router, incarnation: Incarnation, topics: Topics) -> None:
    """Let this router die when it looks at such an input."""
    honest = router.ingress.copies.converters[topics.events]

    def convert(record: Record) -> Iterator[Any]:
        if is_deadly(record):
            incarnation.kill()
            return iter(())
        return honest(record)

    def new_owner(partition: int) -> Owner:
        owner = honest_owner(partition)
        honest_input_of = owner._input_of  # noqa: SLF001 - where an owner first looks at a value

        def input_of(record: Record) -> Any:
            given, cause = honest_input_of(record)
            if given is not None and given.workflow_id.startswith(DEADLY_WORKFLOW):
                incarnation.kill()
                return None, cause
            return given, cause

        vars(owner)["_input_of"] = input_of
        return owner

    honest_owner = router._new_owner  # noqa: SLF001 - as above
    vars(router)["_new_owner"] = new_owner
    router.ingress.copies.converters[topics.events] = convert
