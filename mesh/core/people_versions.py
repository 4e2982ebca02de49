"""Which version of the people is in effect when: activations, in the order of their topic.

Owns the rule by which two routers never judge one answer differently: an answer is judged by the
version in effect at its own broker timestamp. The times follow `mesh.core.activation.Moments`, as
those of routes do. The topic's first activation also applies to everything before it, so from then
on nobody needs the approvers' file.

Pure: `mesh.codec.people` reads the records, and routers and the command line fold them here.
"""

import msgspec

from mesh.core.activation import Moments


class PeopleActivation(msgspec.Struct, frozen=True, kw_only=True):
    """The version of the people that becomes active, and who wanted it why.

    `at_ms`: when the broker took it.
    """

    id: str
    people: str  # the version's digest
    by: str
    at_ms: int
    reason: str = ""


class PlacedPeople(msgspec.Struct, frozen=True):
    """An activation, and the first time that it applies to."""

    activation: PeopleActivation
    since_ms: int


class PeopleTimeline:
    """All activations so far. It only grows.

    What is in effect at a time never changes once all activations that apply to that time are
    known.
    """

    def __init__(self) -> None:
        self._placed: list[PlacedPeople] = []
        self._moments = Moments()

    def add(self, activation: PeopleActivation) -> None:
        """Add the topic's next activation."""
        since = self._moments.add(activation.at_ms, beginning=True)
        self._placed.append(PlacedPeople(activation, since))

    @property
    def is_empty(self) -> bool:
        return not self._placed

    def place(self, at_ms: int) -> int:
        """How many activations are in effect at `at_ms`."""
        return self._moments.place(at_ms)

    def in_effect(self, place: int) -> PlacedPeople | None:
        """The activation that rules at a place; None: the topic has none."""
        return self._placed[place - 1] if place else None

    def at(self, at_ms: int) -> PlacedPeople | None:
        """The activation that rules at `at_ms`."""
        return self.in_effect(self.place(at_ms))

    def latest(self) -> PlacedPeople | None:
        """The last activation, in effect or about to be."""
        return self.in_effect(len(self._placed))

    def all(self) -> list[PlacedPeople]:
        """All activations, the oldest first."""
        return list(self._placed)
