"""The instants of reminders, and what a route may say of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_partition import approval, route

from mesh.core.reminding import DEFAULT, Reminding, last_instant, next_instant
from mesh.core.route import ApprovalWork
from mesh.errors import RouteInvalid

HOUR = 3_600_000


def remind_of(**more: Any) -> Reminding | None:
    work = route({"review": approval(**more)}).steps["review"].work
    assert isinstance(work, ApprovalWork)
    assert work.voting is not None
    return work.voting.reminding


def test_a_route_says_when_to_remind() -> None:
    said = remind_of(deadline="9h", remind={"before": ["4h", "1h"], "every": "1d", "cooldown": "4h"})
    assert said == Reminding(before_ms=(4 * HOUR, HOUR), every_ms=24 * HOUR, cooldown_ms=4 * HOUR)
    assert remind_of(deadline="9h", remind={"before": "1h"}) == DEFAULT
    assert remind_of(remind={"every": "2h", "cooldown": "0s"}) == Reminding(every_ms=2 * HOUR)
    assert remind_of(deadline={"at": "${{ event.data.at }}"}, remind={"before": "9h"}) is not None
    assert remind_of(quorum=2) is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"remind": "1h"}, "remind takes a mapping here"),
        ({"remind": {}}, "remind says neither before nor every"),
        ({"remind": {"before": "1h"}}, "there is no deadline to remind before"),
        ({"deadline": "2h", "remind": {"before": "2h"}}, "2h before a deadline of 2h is before anybody was asked"),
        ({"deadline": "2h", "remind": {"before": []}}, "before has 0 times"),
        ({"deadline": "2h", "remind": {"before": ["1h", 5]}}, "before can't be 5"),
        ({"deadline": "2h", "remind": {"before": "0s"}}, "before can't be"),
        ({"remind": {"every": "soon"}}, "every can't be"),
        ({"remind": {"after": "1h"}}, "after"),
    ],
)
def test_a_reminder_that_can_never_come_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(RouteInvalid, match=message):
        remind_of(**more)


REMINDINGS = st.builds(
    Reminding,
    before_ms=st.lists(st.integers(1, 50), max_size=3).map(tuple),
    every_ms=st.integers(0, 20),
)


@given(REMINDINGS, st.none() | st.integers(1, 100), st.integers(0, 120))
def test_the_last_and_the_next_instant_are_those_of_the_list(said: Reminding, deadline: int | None, now: int) -> None:
    every = list(range(said.every_ms, 400, said.every_ms)) if said.every_ms else []
    before = [] if deadline is None else [deadline - one for one in said.before_ms]
    instants = sorted(at for at in (*every, *before) if at > 0)
    assert last_instant(said, 0, deadline, now) == max((at for at in instants if at <= now), default=None)
    in_time = [at for at in instants if at > now and (deadline is None or at < deadline)]
    assert next_instant(said, 0, deadline, now) == min(in_time, default=None)
