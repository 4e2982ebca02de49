"""How much happened over time."""

import apsw

from mesh.inspection.read_model.queries.rows import Row
from mesh.inspection.read_model.schema import select


class RateRow(Row, frozen=True, array_like=True):
    """A sum over a stretch of time. `what`: as in `mesh.inspection.read_model.rates`."""

    at_ms: int
    what: str
    n: float


def rates(db: apsw.Connection, *, since_ms: int, every_ms: int) -> list[RateRow]:
    """The sums since then, for each stretch of this length."""
    sql = "SELECT at_ms - at_ms % ?, what, sum(n) FROM rates WHERE at_ms >= ? GROUP BY 1, 2 ORDER BY 1, 2"
    return [RateRow(*row) for row in select(db, sql, every_ms, since_ms)]
