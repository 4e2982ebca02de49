"""Which keys may sign answers when: keys and revocations, in the order of their topic.

Owns the rule of when a key is valid, by the broker's timestamps alone. A key and a revocation are
in effect for answers that the broker takes `DELAY_MS` after them or later, as a version of the
people is, so two routers judge a signature alike. A revocation undoes nothing: an answer of before
counts, however late it is read. `since` says from when on an operator distrusts the key, and is for
the audit alone.

Pure: `mesh.codec.approver_keys` reads the records.
"""

from collections.abc import Iterator

import msgspec

from mesh.core.activation import Moments


class SpeaksFor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whom a gateway may name: people with these roles, or these people. Empty `routes`: any."""

    roles: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()


class ApproverKey(msgspec.Struct, frozen=True, kw_only=True):
    """A public key. `person`: who signs with it; a gateway's own name if it `speaks_for` others.

    `x`: the key's 32 bytes, as a JWK has them. `at_ms`: when the broker took it.
    """

    kid: str
    person: str
    x: str
    by: str
    at_ms: int
    reason: str = ""
    speaks_for: SpeaksFor | None = None


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a key. `since_ms`: from when on it is distrusted; None: from the revocation on."""

    kid: str
    by: str
    at_ms: int
    reason: str = ""
    since_ms: int | None = None


class KnownKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key, and for which answers it is valid: `from_ms <= at < until_ms`."""

    key: ApproverKey
    from_ms: int
    revocation: Revocation | None = None
    until_ms: int | None = None

    def is_valid(self, at_ms: int) -> bool:
        return self.from_ms <= at_ms and (self.until_ms is None or at_ms < self.until_ms)

    @property
    def distrusted_ms(self) -> int | None:
        """From which time on nothing that it has signed is to be trusted; None: all of it is."""
        if self.revocation is None:
            return None
        since_ms = self.revocation.since_ms
        return self.until_ms if since_ms is None else since_ms


class KeyTimeline:
    """All keys so far. It only grows; the first record of a key, and of its end, is the one."""

    def __init__(self) -> None:
        self._known: dict[str, KnownKey] = {}
        self._moments = Moments()

    def add(self, record: ApproverKey | Revocation) -> None:
        """Take the topic's next record about a key."""
        # in the order of the topic, even if the broker's clock was put back (ADR 8)
        from_ms = self._moments.add(record.at_ms, beginning=False)
        known = self._known.get(record.kid)
        if isinstance(record, ApproverKey):
            if known is None:
                self._known[record.kid] = KnownKey(key=record, from_ms=from_ms)
        elif known is not None and known.revocation is None:
            self._known[record.kid] = msgspec.structs.replace(known, revocation=record, until_ms=from_ms)

    def get(self, kid: str) -> KnownKey | None:
        return self._known.get(kid)

    def all(self) -> Iterator[KnownKey]:
        """All keys, the oldest first."""
        yield from self._known.values()
