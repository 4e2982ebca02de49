"""What an answer says and who has signed it, read from the bytes that its client sent.

Owns the check of a signature for `mesh.testing.promises.electorate`. It uses the library alone,
and nothing of what routers check signatures with.
"""

import json
from base64 import urlsafe_b64decode
from contextlib import suppress
from typing import Any, Final, NamedTuple

from mesh.codec.times import parse_rfc3339
from mesh.core.json_values import digest
from mesh.core.people import person_of
from mesh.core.signing import Level
from mesh.ports import Record
from mesh.testing.promises.registry import Registry

_MAX_AGE_MS: Final = 24 * 3_600_000  # between the signer's clock and the broker's
_HEADER: Final = {"alg": "Ed25519", "typ": "mesh-answer+jws"}


class Said(NamedTuple):
    """An answer. `fields`: what it says; `at_ms`: when the broker took it.

    `payload`: beside it. `jws` empty: nobody has signed it.
    """

    fields: dict[str, Any]
    at_ms: int
    jws: str
    payload: Any

    @property
    def by(self) -> str:
        return str(self.fields.get("by", ""))

    @property
    def person(self) -> str:
        """Whose answer it is."""
        return str(self.fields.get("for") or self.by)


def said_in(record: Record) -> Said | None:
    """The answer in a record; None: it can't be read."""
    with suppress(ValueError, KeyError, AttributeError, TypeError):
        outside = json.loads(record.value or b"")
        jws = outside.get("jws", "")
        fields = _part(jws, 1) if jws else outside
        return Said(fields, record.timestamp_ms, jws, outside.get("payload"))
    return None


def _part(jws: str, number: int) -> Any:
    return json.loads(_bytes(jws.split(".")[number]))


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Signatures:
    """`mesh`: its name in signed answers."""

    def __init__(self, known: Registry, mesh: str) -> None:
        self._known = known
        self._mesh = mesh
        self._true: dict[tuple[str, str], bool] = {}  # by signature and key

    def why_not(self, said: Said, level: Level, route: str) -> str:
        """Why an answer is not proven as this level wants it; empty if it is."""
        if not said.jws:
            return "" if level == "none" else "it is not signed"
        return self.why_not_signed(said.jws, said, level, route)

    def why_not_signed(self, jws: str, said: Said, level: Level, route: str) -> str:
        header, body = _part(jws, 0), said.fields
        key = self._known.key_at(str(header.get("kid")), said.at_ms)
        if key is None or any(header.get(name) != value for name, value in _HEADER.items()):
            return "its key is not known, or not valid then"
        if not self._is_true(jws, key.x):
            return f"the key of {key.person} has not signed it"
        if body.get("mesh") != self._mesh:
            return "it is for another mesh"
        if said.payload is not None and body.get("payload_digest") != digest(said.payload):
            return "its edit is not the one that was signed"
        if abs(parse_rfc3339(body["answered_at"]) - said.at_ms) > _MAX_AGE_MS:
            return "it was signed at another time"
        by = self._known.id_of(said.by, said.at_ms)
        if key.speaks_for is None:
            return "" if self._known.id_of(key.person, said.at_ms) == by else f"the key is {key.person}'s"
        scope = key.speaks_for
        people = {self._known.id_of(name, said.at_ms) for name in scope.people}
        is_named = by in people or self._known.roles_of(said.by, said.at_ms) & {*scope.roles}
        is_here = not scope.routes or route in scope.routes
        says_so = person_of(body.get("via", {}).get("signer", "")) == person_of(key.person)
        return "" if level != "own" and is_named and is_here and says_so else f"{key.person} may not speak for them"

    def _is_true(self, jws: str, x: str) -> bool:
        from joserfc import jws as library  # noqa: PLC0415 - only where people sign: it takes 0.2 s to load
        from joserfc.errors import JoseError  # noqa: PLC0415 - as above
        from joserfc.jwk import OKPKey  # noqa: PLC0415 - as above

        if (jws, x) not in self._true:
            key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x})
            try:
                library.deserialize_compact(jws, key, algorithms=["Ed25519"])
                self._true[jws, x] = True
            except JoseError:
                self._true[jws, x] = False
        return self._true[jws, x]
