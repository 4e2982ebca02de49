"""Check private routes: a business key that comes from what is to be erased.

Owns this finding. Ids lie open in every record, and stay after an erasure.
`mesh.inspection.checks.findings_of` calls it.
"""

from collections.abc import Iterator

from mesh.core.route import Route
from mesh.inspection.checks.finding import RouteFinding, warning


def findings(route: Route) -> Iterator[RouteFinding]:
    if route.private and route.key is not None and any(path.startswith("event.data") for path in route.key.paths):
        message = "the key comes from the event's data, and stays open in every id after an erasure"
        yield warning(("key",), "open_key", message, "take a number that names nobody, such as ${{ event.id }}")
