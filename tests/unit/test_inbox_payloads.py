"""A condition on payloads, compared with a look at each approval by itself."""

from typing import Any

from draws import draws
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh.cli.approvals.filters import Payloads
from mesh.codec.open_approvals import encode_shown, placed
from mesh.core.events import ApprovalRequested
from mesh.core.open_approvals import NewPayload, ShowApproval, Shown
from mesh.core.topics import Topics
from mesh.inspection.inbox import Filters, Waiting, find, page_of
from mesh.inspection.inbox.parts import take
from mesh.inspection.inbox.schema import open_in_memory
from mesh.ports import Record

TOPICS = Topics()
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.integers(98, 102)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "é", '"', "\\", "\u2028", "\x00", "100"])
)
PAYLOADS = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.sampled_from(["amount", "of", "a b"]), SCALARS)
STEPS = st.tuples(st.integers(0, 3), st.sampled_from(["request", "payload", "end"]), PAYLOADS)
CONDITIONS = st.sampled_from(
    [
        "payload.amount < 100",
        "payload.amount == 100 || payload.of == '100'",
        "has(payload.amount) && payload['a b'] != null",
        "size(payload) > 1",
        "payload == null",
        "payload.exists(key, key == 'of')",
    ]
)


def shown(number: int, part: str, value: Shown | None, offset: int) -> Record:
    """A record of the topic, as a reader has it. Some are of another route."""
    workflow_id = f"{'pay' if number % 2 else 'order'}:{number}"
    approval_id = f"{workflow_id}/0af76519/review"
    show = ShowApproval(workflow_id=workflow_id, approval_id=approval_id, part=part, value=value, at_ms=offset)
    sent = placed(encode_shown(show, topics=TOPICS), offset)
    return Record(
        topic=sent.topic,
        partition=0,
        offset=offset,
        timestamp_ms=offset,
        key=sent.key,
        value=sent.value,
        headers=sent.headers,
    )


def records(steps: list[tuple[int, str, Any]]) -> list[Record]:
    found = []
    for offset, (number, part, payload) in enumerate(steps):
        asked = ApprovalRequested(
            step="review",
            approval_id=f"{'pay' if number % 2 else 'order'}:{number}/0af76519/review",
            question="Pay?",
            payload=payload,
            digest="sha256:1",
            role="finance",
            on_expiry="reject",
            traceparent="",
            reason="",
            deadline_at_ms=offset,
        )
        edit = NewPayload(payload=payload, digest="sha256:2", edition=2, by="ana")
        if part == "end":
            found += [shown(number, one, None, offset) for one in ("request", "payload")]
        else:
            found.append(shown(number, part, asked if part == "request" else edit, offset))
    return found


@settings(max_examples=draws(150))
@given(st.lists(STEPS, max_size=12), CONDITIONS, st.sampled_from([None, "pay"]), st.integers(1, 13))
@example([(1, "payload", {"amount": 1}), (1, "request", {"amount": 200})], "payload.amount < 100", None, 13)
def test_a_condition_finds_what_it_holds_for(
    steps: list[tuple[int, str, Any]], condition: str, route: str | None, portion: int
) -> None:
    """In whatever portions the topic was read, of what is asked, edited and ended."""
    db = open_in_memory()
    there = records(steps)
    for start in range(0, len(there), portion):
        take(db, there[start : start + portion])
    every = [find(db, row.approval_id) for row in page_of(db, Filters(route=route))]
    plain, quick = Payloads(condition), Payloads(condition)
    expected = [one.row for one in every if isinstance(one, Waiting) and plain(one.request.payload)]
    page = page_of(db, Filters(route=route, payload=quick))
    assert list(page) == expected
    assert page.total == len(expected)
    assert quick.unfit == plain.unfit
