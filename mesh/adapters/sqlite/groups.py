"""Consumer groups in the file: members under leases, what they hold, what they committed.

Owns these tables and the rules of sharing. Called by `subscription` and `broker`. It must not call
a listener.

There is no coordinator. Every member computes, from the same rows, who should hold what (`shares`:
balanced, and with as few moves as possible). It lets go of what is not in its share, and claims
what is, if nobody holds it. Both are single transactions, so a partition has one holder at any
time. The first member that sees that another is dead removes it, with everything that it held. The
process of a removed member may only have been stopped. When it goes on, it finds its row gone.

    free ── claim ──> held ── release (after on_revoked) ──> free
                       └───── holder dead or lease over ───> free

Leases use the machine's monotonic clock, which all processes share and nobody sets.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import apsw
import msgspec

from mesh.adapters.sqlite.log import Catalogue
from mesh.adapters.sqlite.processes import Process, is_dead
from mesh.ports import Committed

_LEASE_SLACK: Final = 2.0  # a lease that ends more than twice its session ahead is from another boot


class Me(NamedTuple):
    """A member as it joins. `id` is new for each joining."""

    id: str
    group_id: int
    name: str
    topics: tuple[str, ...]
    session_s: float
    process: Process


class _Member(NamedTuple):
    id: str
    topics: tuple[str, ...]
    session_s: float
    lease_until_s: float
    process: Process


class Step(NamedTuple):
    """What one member has to do next.

    `is_lost`: it was taken for dead, and holds nothing any more.
    """

    is_lost: bool
    dead: Sequence[str]
    claim: Sequence[int]
    release: Sequence[int]

    @property
    def is_needed(self) -> bool:
        return bool(self.is_lost or self.dead or self.claim or self.release)


def shares(wanted: Mapping[str, Sequence[int]], held: Mapping[int, str]) -> Mapping[str, frozenset[int]]:
    """Who should hold what, as evenly as possible and with the fewest moves.

    Every partition goes to one of those who want it. `wanted`: what each member subscribed to,
    members in the order of joining. `held`: who holds what now.
    """
    result: dict[str, set[int]] = {member: set() for member in wanted}
    wants = {member: frozenset(partitions) for member, partitions in wanted.items()}
    free: list[int] = []
    for partition in sorted(frozenset().union(*wants.values())):
        holder = held.get(partition)
        if holder is not None and partition in wants.get(holder, ()):
            result[holder].add(partition)
        else:
            free.append(partition)
    for partition in free:
        takers = (member for member in wanted if partition in wants[member])
        result[min(takers, key=lambda member: len(result[member]))].add(partition)
    while _move_one(result, wants):
        pass
    return {member: frozenset(partitions) for member, partitions in result.items()}


def _move_one(result: dict[str, set[int]], wants: Mapping[str, frozenset[int]]) -> bool:
    """Move one partition from a member to one that has at least two fewer."""
    for giver in sorted(result, key=lambda member: -len(result[member])):
        for taker in sorted(result, key=lambda member: len(result[member])):
            if len(result[giver]) - len(result[taker]) <= 1:
                break
            movable = result[giver] & wants[taker]
            if movable:
                # by a fixed rule: all members must come to the same shares from the same rows
                moved = max(movable)
                result[giver].discard(moved)
                result[taker].add(moved)
                return True
    return False


class Groups:
    """The tables of groups.

    They belong to one connection and one thread. Whatever writes must be called within a
    transaction.
    """

    def __init__(self, connection: apsw.Connection, catalogue: Catalogue) -> None:
        self._connection = connection
        self._catalogue = catalogue

    def group_id(self, name: str) -> int | None:
        found = self._connection.execute("SELECT id FROM consumer_group WHERE name = ?", (name,)).get
        return None if found is None else int(found)

    def add_group(self, name: str) -> int:
        self._connection.execute("INSERT OR IGNORE INTO consumer_group (name) VALUES (?)", (name,))
        found = self.group_id(name)
        assert found is not None  # noqa: S101 - for the type checker: it was just added
        return found

    # Membership

    def join(self, me: Me, now_s: float) -> None:
        self._connection.execute(
            "INSERT INTO member VALUES (?1, ?2, (SELECT coalesce(max(joined), 0) + 1 FROM member), ?3, ?4, ?5, ?6, ?7)",
            (
                *(me.id, me.group_id, me.name),
                *(msgspec.json.encode(me.topics).decode(), me.session_s, now_s + me.session_s),
                msgspec.json.encode(me.process).decode(),
            ),
        )

    def renew(self, me: Me, now_s: float) -> bool:
        """Extend the lease. False if the member is gone."""
        self._connection.execute(
            "UPDATE member SET lease_until_s = ? WHERE id = ? AND group_id = ?",
            (now_s + me.session_s, me.id, me.group_id),
        )
        return self._connection.changes() > 0

    def remove(self, group_id: int, members: Iterable[str]) -> None:
        for member in members:
            self._connection.execute("DELETE FROM claim WHERE group_id = ? AND member_id = ?", (group_id, member))
            self._connection.execute("DELETE FROM member WHERE id = ?", (member,))

    def is_member(self, me: Me) -> bool:
        return self._connection.execute("SELECT 1 FROM member WHERE id = ?", (me.id,)).get is not None

    def next_step(self, me: Me, now_s: float) -> Step:
        """What `me` has to do now.

        This only reads. It also checks whether the processes of other members are alive.
        """
        members = self._members(me.group_id)
        if all(member.id != me.id for member in members):
            return Step(is_lost=True, dead=(), claim=(), release=())
        dead = [member.id for member in members if member.id != me.id and _is_over(member, now_s)]
        alive = [member for member in members if member.id not in dead]
        # what the dead held may be claimed in this same step
        held = {at: holder for at, holder in self._claims(me.group_id).items() if holder not in dead}
        share = shares({member.id: self._partitions(member.topics) for member in alive}, held)[me.id]
        claim = [at for at in sorted(share) if at not in held]
        release = [at for at, holder in sorted(held.items()) if holder == me.id and at not in share]
        return Step(is_lost=False, dead=dead, claim=claim, release=release)

    def apply(self, me: Me, step: Step) -> Mapping[int, Committed | None]:
        """Remove the dead, and claim.

        Returns what was claimed, with its position. (Releasing comes after the listener.)
        """
        self.remove(me.group_id, step.dead)
        self._connection.executemany(
            "INSERT INTO claim (group_id, partition_id, member_id) VALUES (?, ?, ?)",
            [(me.group_id, at, me.id) for at in step.claim],
        )
        return {at: self.committed(me.group_id, at) for at in step.claim}

    def release(self, me: Me, partitions: Iterable[int]) -> None:
        self._connection.executemany(
            "DELETE FROM claim WHERE group_id = ? AND partition_id = ? AND member_id = ?",
            [(me.group_id, at, me.id) for at in partitions],
        )

    def _members(self, group_id: int) -> list[_Member]:
        rows = self._connection.execute(
            "SELECT id, topics, session_s, lease_until_s, process FROM member WHERE group_id = ? ORDER BY joined",
            (group_id,),
        )
        return [
            _Member(
                *(id_, msgspec.json.decode(topics, type=tuple[str, ...]), session_s, lease_until_s),
                msgspec.json.decode(process, type=Process),
            )
            for id_, topics, session_s, lease_until_s, process in rows
        ]

    def _claims(self, group_id: int) -> dict[int, str]:
        rows = self._connection.execute("SELECT partition_id, member_id FROM claim WHERE group_id = ?", (group_id,))
        return msgspec.convert(dict(rows), dict[int, str])

    def _partitions(self, topics: Iterable[str]) -> list[int]:
        found = (self._catalogue.find(name) for name in topics)
        return [topic.first_id + p for topic in found if topic is not None for p in range(topic.info.partitions)]

    # Positions

    def held_by(self, me: Me) -> frozenset[int]:
        """The partitions that `me` holds."""
        rows = self._connection.execute(
            "SELECT partition_id FROM claim WHERE group_id = ? AND member_id = ?", (me.group_id, me.id)
        )
        return frozenset(int(partition_id) for (partition_id,) in rows)

    def commit(self, me: Me, positions: Mapping[int, Committed]) -> frozenset[int]:
        """Record positions, but only of partitions that `me` holds. Returns those."""
        # A member that was removed while it was stopped must not move what is another's by now.
        held = self.held_by(me).intersection(positions)
        self._connection.executemany(
            "INSERT INTO position VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset, metadata = excluded.metadata",
            [(me.group_id, at, positions[at].offset, positions[at].metadata) for at in sorted(held)],
        )
        return held

    def committed(self, group_id: int, partition_id: int) -> Committed | None:
        row = self._connection.execute(
            "SELECT next_offset, metadata FROM position WHERE group_id = ? AND partition_id = ?",
            (group_id, partition_id),
        ).get
        return None if row is None else Committed(*row)


def _is_over(member: _Member, now_s: float) -> bool:
    left_s = member.lease_until_s - now_s
    # the monotonic clock begins again at each boot, and an old lease would then hold for days
    return left_s <= 0 or left_s > _LEASE_SLACK * member.session_s or is_dead(member.process)
