"""Which member should hold what in a consumer group on SQLite.

Everything once, evenly, and with few moves.
"""

from hypothesis import given
from hypothesis import strategies as st

from mesh.adapters.sqlite.groups import shares

_MEMBERS = st.lists(st.sampled_from("abcdefg"), unique=True, min_size=1)


@given(_MEMBERS, st.integers(0, 20), st.dictionaries(st.integers(0, 25), st.sampled_from("abcdefgx")))
def test_every_partition_has_one_member_and_shares_differ_by_one_at_the_most(
    members: list[str], partitions: int, held: dict[int, str]
) -> None:
    result = shares({member: range(partitions) for member in members}, held)
    assert sorted(at for share in result.values() for at in share) == list(range(partitions))
    sizes = [len(share) for share in result.values()]
    assert max(sizes) - min(sizes) <= 1


@given(_MEMBERS, st.integers(0, 20))
def test_what_is_settled_stays_as_it_is(members: list[str], partitions: int) -> None:
    wanted = {member: range(partitions) for member in members}
    settled = shares(wanted, {})
    assert shares(wanted, {at: member for member, share in settled.items() for at in share}) == settled


@given(st.integers(1, 6), st.integers(0, 24))
def test_a_newcomer_takes_only_its_share_and_nothing_moves_between_the_others(members: int, partitions: int) -> None:
    wanted = {f"m{n}": range(partitions) for n in range(members)}
    before = shares(wanted, {})
    held = {at: member for member, share in before.items() for at in share}
    after = shares({**wanted, "new": range(partitions)}, held)
    assert all(after[member] <= before[member] for member in before)


def test_members_get_only_what_they_subscribed_to() -> None:
    result = shares({"a": [1, 2, 3, 4], "b": [3, 4], "c": []}, {3: "a", 4: "c"})
    assert result == {"a": frozenset({1, 2}), "b": frozenset({3, 4}), "c": frozenset()}
