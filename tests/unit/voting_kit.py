"""An approval of several people, asked and answered, for the tests of its rules."""

from typing import Any

from msgspec.structs import replace
from one_partition import PEOPLE, Partition, agent, approval, only, route

from mesh.core.events import (
    ApprovalClosed2,
)
from mesh.core.receipts import SendReceipt
from mesh.core.state import Directory

CROWD = replace(
    PEOPLE,
    roles={
        "ana": frozenset({"manager", "legal"}),
        "ben": frozenset({"manager"}),
        "Cy": frozenset({"manager"}),
        "cy ": frozenset({"finance"}),
        "dan": frozenset({"clerk"}),
        "eve": frozenset({"legal"}),
    },
)
BY = "${{ event.data.by }}"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def asked(*, directory: Directory = CROWD, data: Any = None, more: Any = None, **terms: Any) -> Partition:
    """A workflow that asks managers, and then pays."""
    asks = {name: value for name, value in {"role": "manager", "quorum": 1, **terms}.items() if value is not None}
    question = {
        name: value for name, value in approval(**asks)["approval"].items() if name in {*asks, "ask", "payload"}
    }
    steps = {"review": {"approval": question}, "pay": agent("p", "${{ steps.review }}", needs="review")}
    p = Partition(route(steps, **(more or {})), directory=directory)
    p.start(data=data or {"by": "ben"})
    return p


def excluding(terms: dict[str, Any]) -> dict[str, Any]:
    """`not`, which is no name in Python."""
    return terms


def code(p: Partition, by: str, decision: Any = "approve", **more: Any) -> str:
    """The code of the receipt, of which there is exactly one. Then the log folds to the same."""
    p.vote(by, decision, **more)
    receipts = [effect for effect in p.effects() if isinstance(effect, SendReceipt)]
    assert len(receipts) == 1
    assert receipts[0].by == by
    p.check_replay()
    return receipts[0].code


def receipt(p: Partition) -> SendReceipt:
    return only(p.effects(), SendReceipt)


def closed(p: Partition) -> ApprovalClosed2:
    return only(p.decisions[-1].events, ApprovalClosed2)
