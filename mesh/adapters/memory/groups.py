"""Consumer groups as the cluster sees them: members, holders of partitions, commits.

Owns membership and the sharing of partitions. It must not call a listener: the members' connections
do that in their `poll`, and report back.

A partition changes hands in two steps. Its holder is asked to give it up (`must_revoke`) and
releases it, or loses its membership by silence. Then the member that it is meant for takes it. With
Kafka's weaker behaviour everything is given up before anything is taken (an eager rebalance).
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mesh.ports import Committed, TopicPartition

if TYPE_CHECKING:
    from mesh.adapters.memory.cluster import MemoryCluster


class Membership:
    """One member as the group knows it.

    `expelled`: it is a member no longer, though it may not know that yet.
    """

    __slots__ = (
        "expelled",
        "gone",
        "heard_at",
        "must_revoke",
        "name",
        "number",
        "polling",
        "session_s",
        "topics",
        "wake",
    )

    def __init__(self, number: int, name: str, topics: Sequence[str], session_s: float, wake: asyncio.Event) -> None:
        self.number = number
        self.name = name
        self.topics = tuple(topics)
        self.session_s = session_s
        self.wake = wake
        self.heard_at = asyncio.get_running_loop().time()
        self.polling = False
        self.gone = False  # its process is dead: a poll that it began is not a sign of life
        self.expelled = False
        self.must_revoke: dict[TopicPartition, None] = {}


class Group:
    """One consumer group."""

    def __init__(self, name: str, cluster: "MemoryCluster") -> None:
        self.name = name
        self.committed: dict[TopicPartition, Committed] = {}
        self._cluster = cluster
        self._eager = cluster.weak is not None
        self._members: dict[int, Membership] = {}
        self._holders: dict[TopicPartition, Membership] = {}
        self._meant_for: dict[TopicPartition, Membership] = {}
        self._numbers = 0

    # members come and go

    def join(self, name: str, topics: Sequence[str], session_s: float, wake: asyncio.Event) -> Membership:
        self._numbers += 1
        member = Membership(self._numbers, name, topics, session_s, wake)
        self._members[member.number] = member
        self._watch(member)
        self.rebalance()
        return member

    def leave(self, member: Membership) -> None:
        """End the membership. The member holds nothing after that."""
        if member.expelled:
            return
        member.expelled = True
        member.must_revoke = {}
        del self._members[member.number]
        self._holders = {at: holder for at, holder in self._holders.items() if holder is not member}
        self.rebalance()

    def topic_created(self, topic: str) -> None:
        if any(topic in member.topics for member in self._members.values()):
            self.rebalance()

    def _watch(self, member: Membership) -> None:
        """Expel the member once it has been silent for its session's time-out."""
        loop = asyncio.get_running_loop()

        def look() -> None:
            if member.expelled:
                return
            # a poll under way is a sign of life, as a client's heartbeats are
            alive = member.polling and not member.gone
            silent_s = 0.0 if alive else loop.time() - member.heard_at
            if silent_s >= member.session_s:
                self.leave(member)
            else:
                self._cluster.later(max(member.session_s - silent_s, 0.001), look)

        self._cluster.later(member.session_s, look)

    # partitions change hands

    def rebalance(self, *, afresh: bool = False) -> None:
        """Decide again who should hold what, and ask holders to give up what they must.

        `afresh`: as if nobody held anything before.
        """
        self._meant_for = self._share(afresh=afresh)
        for member in self._members.values():
            held = [at for at, holder in self._holders.items() if holder is member]
            must = held if self._eager else [at for at in held if self._meant_for.get(at) is not member]
            # a new dict for each rebalance: `_bound_revoking` knows by it which one it bounds
            member.must_revoke = dict.fromkeys(sorted(must))
            if must:
                self._bound_revoking(member)
            member.wake.set()

    def released(self, member: Membership, partitions: Sequence[TopicPartition]) -> None:
        """Free these partitions: the member's `on_revoked` has returned."""
        for at in partitions:
            member.must_revoke.pop(at, None)
            if self._holders.get(at) is member:
                del self._holders[at]
        for other in self._members.values():
            other.wake.set()

    def take(self, member: Membership) -> dict[TopicPartition, Committed | None]:
        """Give the member the free partitions that are meant for it, with what was committed."""
        taken = self._free_for(member)
        for at in taken:
            self._holders[at] = member
        return {at: self.committed.get(at) for at in taken}

    def has_for(self, member: Membership) -> bool:
        """Whether `take` would give the member anything."""
        return bool(self._free_for(member))

    def _free_for(self, member: Membership) -> list[TopicPartition]:
        # an eager rebalance gives nothing out before everything is given up
        if member.expelled or (self._eager and any(m.must_revoke for m in self._members.values())):
            return []
        return [at for at, owner in sorted(self._meant_for.items()) if owner is member and at not in self._holders]

    def commit(self, member: Membership, offsets: Mapping[TopicPartition, Committed]) -> frozenset[TopicPartition]:
        """Record the positions of what the member holds, and return what that is.

        The rest is ignored.
        """
        held = frozenset(at for at in offsets if self._holders.get(at) is member)
        self.committed |= {at: position for at, position in offsets.items() if at in held}
        return held

    def _bound_revoking(self, member: Membership) -> None:
        """Expel a member that does not give up what it must within its session's time-out."""
        asked = member.must_revoke

        def look() -> None:
            # a later rebalance has made a new dict, and bounds that one by itself
            if member.must_revoke is asked and asked:
                self.leave(member)

        self._cluster.later(member.session_s, look)

    def _share(self, *, afresh: bool) -> dict[TopicPartition, Membership]:
        """Deal out partitions evenly. A holder keeps its partition as far as evenness allows."""
        members = list(self._members.values())
        if afresh:
            self._cluster.rng.shuffle(members)
        shares: dict[int, list[TopicPartition]] = {m.number: [] for m in members}
        partitions = self._cluster.partitions_of({topic: None for m in members for topic in m.topics})
        loose = []
        for at in partitions:
            holder = None if afresh else self._meant_for.get(at)
            if holder is not None and holder.number in shares:
                shares[holder.number].append(at)
            else:
                loose.append(at)
        for at in loose:
            able = [m for m in members if at.topic in m.topics]
            if able:
                shares[min(able, key=lambda m: len(shares[m.number])).number].append(at)
        _even_out(members, shares)
        return {at: self._members[number] for number, share in shares.items() for at in share}


def _even_out(members: Sequence[Membership], shares: dict[int, list[TopicPartition]]) -> None:
    """Move partitions from members with more to members with less, until no move helps."""
    while True:
        for poor in sorted(members, key=lambda m: len(shares[m.number])):
            size = len(shares[poor.number])
            rich = [m for m in members if len(shares[m.number]) > size + 1]
            movable = [(m, at) for m in rich for at in reversed(shares[m.number]) if at.topic in poor.topics]
            if movable:
                giver, at = max(movable, key=lambda pair: len(shares[pair[0].number]))
                shares[giver.number].remove(at)
                shares[poor.number].append(at)
                break
        else:
            return
