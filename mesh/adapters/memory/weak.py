"""How much weaker than SQLite the memory broker behaves: Kafka's faults, as probabilities.

Owns the numbers alone. The draws come from the cluster's seeded `random.Random`, so a run is
repeated by its seed.
"""

import msgspec


class WeakBehaviour(msgspec.Struct, frozen=True, kw_only=True):
    """Kafka's behaviour: an append does not compare, effects go separately, rebalances are eager.

    With the defaults there are no faults. Probabilities are in [0, 1]. One caller's batches for one
    partition land in order, as an idempotent producer's do: when one of them breaks, those behind
    it land after it or not at all, and all outcomes are unknown.
    """

    latency_s: tuple[float, float] = (0.0, 0.0)
    """Range of every way over the network: of a batch to the broker, of its acknowledgement back, of any other call."""

    lost_request: float = 0.0
    """A batch never lands; its caller learns only that the outcome is unknown."""

    lost_acknowledgement: float = 0.0
    """A batch lands; its caller learns only that the outcome is unknown."""

    late_landing: float = 0.0
    """A batch lands up to `late_by_s` after its caller was told that the outcome is unknown."""

    give_up_s: float = 10.0
    """A caller learns of an unknown outcome after at most this time."""

    late_by_s: float = 30.0
    """How late what is on the wire may land, also after the connection's death."""

    lands_twice: float = 0.0
    """A send, or an append without an expected offset, lands a second time (the retry of one whose acknowledgement was lost)."""

    split_append: float = 0.0
    """An append goes as several batches, between which other writers' records may land."""

    failed_call: float = 0.0
    """Any other call (offsets, commits, topics) raises `BrokerUnavailable`; a commit may have taken place all the same."""

    rebalance: float = 0.0
    """At a poll: the group deals out all partitions afresh, for no reason that a member could see."""

    undead: float = 0.0
    """At a poll: this member has lost its membership, and is not told before the poll after this one."""
