"""Which version of each route is in effect when: activations, in the order of their topic.

Owns the rule by which two routers never match one event differently. An event is matched with the
versions in effect at its own broker timestamp. An activation takes effect `DELAY_MS` after its own
timestamp. Because of the delay, a router knows when it has seen every activation that matters for a
batch (`known_until_ms`), with no clock but the broker's timestamps. docs/adr/0008 has the argument.

    an activation at 100.0   is in effect for events from 102.0 on
    a refresh begun after an event of 105.0 was seen: every activation before 105.0 is known (less
                             SLACK_MS, for brokers whose clocks differ), so every event before 106.0
                             can be matched

The people's topic follows the same rule for answers (`mesh.core.people_versions`), so the times are
in `Moments`, which knows nothing of routes.

Pure: `mesh.codec.definitions` reads the records, and routers and the command line fold them here.
"""

from bisect import bisect_right
from typing import Final, NamedTuple

import msgspec

DELAY_MS: Final = 2_000
"""From the broker's timestamp of an activation to the first event that it bears on."""

SLACK_MS: Final = 1_000
"""What two broker nodes' clocks may differ by.

It includes the time that the replication of an activation may take.
"""

FROM_THE_BEGINNING: Final = -1
"""Before every timestamp."""


def known_until_ms(seen_ms: int) -> int:
    """The time below which events may be matched after a refresh.

    The refresh must have begun after an event of `seen_ms` had been seen.
    """
    # less the slack: nodes' clocks differ, and an activation may be stamped and not replicated yet
    # (ADR 8)
    return seen_ms + DELAY_MS - SLACK_MS


class Activation(msgspec.Struct, frozen=True, kw_only=True):
    """The versions that become active for these routes, all at once.

    None: the route is withdrawn and starts nothing.

    `at_ms`: when the broker took it. `beginning`: nothing was active before, so if it is the first
    of its topic it also applies to all events that were there already.
    """

    id: str
    routes: dict[str, str | None]  # name -> digest
    by: str
    at_ms: int
    beginning: bool = False
    reason: str = ""


class RouteChange(msgspec.Struct, frozen=True, kw_only=True):
    """One route's part of an activation.

    `since_ms`: the time of the first event that it applies to, or `FROM_THE_BEGINNING`.
    """

    digest: str | None
    since_ms: int
    activation: Activation


class Placed(NamedTuple):
    """An activation, and the first time that it applies to."""

    activation: Activation
    since_ms: int


class Moments:
    """The first time that each activation of a topic applies to, in the order of their offsets.

    `since`: these times. They never fall.
    """

    def __init__(self) -> None:
        self.since: list[int] = []

    def add(self, at_ms: int, *, beginning: bool) -> int:
        """The first time that the topic's next activation applies to.

        `at_ms`: when the broker took it. `beginning`: if it is the topic's first, it also applies
        to all that was there already. If the broker's clock was set back, the activation still
        comes after all earlier ones.
        """
        # so that what came before the first router is judged too (ADR 8)
        if beginning and not self.since:
            since = FROM_THE_BEGINNING
        else:
            # never before an earlier one, even if the broker's clock was put back (ADR 8)
            since = max(at_ms + DELAY_MS, self.since[-1] if self.since else 0)
        self.since.append(since)
        return since

    def place(self, at_ms: int) -> int:
        """How many activations are in effect at `at_ms`."""
        return bisect_right(self.since, at_ms)


class Timeline:
    """All activations so far.

    It only grows. What is in effect at a time never changes once all activations that apply to that
    time are known.
    """

    def __init__(self) -> None:
        self._activations: list[Activation] = []
        self._moments = Moments()

    def add(self, activation: Activation) -> None:
        """Add the topic's next activation."""
        self._moments.add(activation.at_ms, beginning=activation.beginning)
        self._activations.append(activation)

    @property
    def _since(self) -> list[int]:
        return self._moments.since

    @property
    def count(self) -> int:
        """How many activations there are."""
        return len(self._activations)

    @property
    def is_empty(self) -> bool:
        return not self._activations

    def place(self, at_ms: int) -> int:
        """How many activations are in effect at `at_ms`.

        Times with the same place have the same set of routes.
        """
        return self._moments.place(at_ms)

    def in_effect(self, place: int) -> dict[str, str]:
        """The digest of each route at a place."""
        routes: dict[str, str | None] = {}
        for activation in self._activations[:place]:
            routes.update(activation.routes)
        return {name: digest for name, digest in routes.items() if digest is not None}

    def earlier(self, place: int) -> set[str]:
        """The digests that were in effect before a place and are not in effect at it.

        Workflows may run on them.
        """
        active = set(self.in_effect(place).values())
        return {d for one in self._activations[:place] for d in one.routes.values() if d is not None} - active

    def digests(self) -> set[str]:
        """The digests of all versions that were, are, or are about to be in effect."""
        return {digest for one in self._activations for digest in one.routes.values() if digest is not None}

    def at(self, at_ms: int) -> dict[str, str]:
        """The digest of each route in effect at `at_ms`."""
        return self.in_effect(self.place(at_ms))

    def latest(self) -> dict[str, RouteChange]:
        """The last change of each route that was ever active, in effect or about to be."""
        return {
            name: RouteChange(digest=digest, since_ms=since, activation=activation)
            for activation, since in zip(self._activations, self._since, strict=True)
            for name, digest in activation.routes.items()
        }

    def history(self, name: str) -> list[RouteChange]:
        """A route's changes, the oldest first.

        If an activation names the version that is already active, it is not a change.
        """
        found: list[RouteChange] = []
        for activation, since in zip(self._activations, self._since, strict=True):
            if name not in activation.routes:
                continue
            digest = activation.routes[name]
            if not found or found[-1].digest != digest:
                found.append(RouteChange(digest=digest, since_ms=since, activation=activation))
        return found

    def find(self, activation_id: str) -> Placed | None:
        """An activation by its id; None if there is none."""
        for activation, since in zip(self._activations, self._since, strict=True):
            if activation.id == activation_id:
                return Placed(activation, since)
        return None
