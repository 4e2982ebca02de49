"""How much weaker than SQLite the memory broker behaves: Kafka's faults, as probabilities.

Owns the numbers alone. The draws come from the cluster's seeded `random.Random`, so a run is
repeated by its seed.
"""

import msgspec


class WeakBehaviour(msgspec.Struct, frozen=True, kw_only=True):
    """Kafka's behaviour: an append does not compare, effects go separately, rebalances are eager.

    With the defaults there are no faults. Probabilities are in [0, 1]. One caller's batches for one
    partition land in order, as an idempotent producer's do: when one of them breaks, those behind
    it land after it or not at all, and the outcome of each is unknown.
    """

    latency_s: tuple[float, float] = (0.0, 0.0)
    """Range of every way over the network: a batch's, its acknowledgement's, any other call's."""

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
    """A send, or an append without an expected offset, is retried and lands a second time."""

    split_append: float = 0.0
    """An append goes as several batches, between which other writers' records may land."""

    failed_call: float = 0.0
    """Any other call raises `BrokerUnavailable`; a commit may have taken place all the same."""

    rebalance: float = 0.0
    """At a poll, the group deals out all partitions again, for no reason a member could see."""

    undead: float = 0.0
    """At a poll, this member loses its membership, and learns of it only at the next poll."""
