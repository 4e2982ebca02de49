"""The fixed routes of simulations that no event starts: other routes call them, or a schedule does.

Owns the documents alone; `repertoire` compiles them.
"""

from typing import Any, Final

from mesh.testing.simulation.routes import RETRY, approval

_CALLED_DOCUMENTS: Final[tuple[dict[str, Any], ...]] = (
    {
        "route": "called",
        "steps": {
            "work": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "5s", "retry": RETRY},
            "more": {"needs": "work", "agent": "beta", "input": "${{ steps.work }}", "timeout": "5s", "retry": RETRY},
        },
        "output": {"of": "${{ event.data }}", "more": "${{ steps.more }}"},
    },
    {
        "route": "called-with-an-approval",
        "steps": {
            "draft": {"agent": "gamma", "input": "${{ event.data }}", "timeout": "5s", "retry": RETRY},
            "review": {"needs": "draft", "approval": approval(deadline="10s", on_expiry="approve")},
            "again": {"needs": "review", "workflow": "called", "input": "${{ steps.review.payload }}"},
        },
    },
)
"""Steps of others call these."""

_HOURLY: Final[dict[str, Any]] = {
    "route": "hourly",  # for runs of a minute
    "on": {"schedule": "* * * * *"},
    "steps": {"only": {"agent": "alpha", "input": "${{ event.data }}", "timeout": "5s", "retry": RETRY}},
}

CALLED: Final = {str(document["route"]): document for document in (*_CALLED_DOCUMENTS, _HOURLY)}
"""No event starts these."""

SCHEDULED: Final = "hourly"
