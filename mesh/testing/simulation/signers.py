"""Keys of the people in a run, and what they sign well or badly.

Owns each person's keys and how an answer is signed: with one's own key or somebody else's, one that
was revoked, one that nobody has applied, by a gateway, for another mesh, long ago, or not at all.
`approvers` signs with it, `operators` and `personal` change keys.
"""

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from typing import Any, Final

from mesh.codec.approvals import Signer
from mesh.codec.approver_keys import encode_key, encode_revocation
from mesh.codec.signing_keys import SigningKey
from mesh.codec.times import rfc3339
from mesh.core.approver_keys import SpeaksFor
from mesh.testing.simulation.ground import Ground

PEOPLE: Final = ("ana", "ben", "cem", "eve")
GATEWAY: Final = "desk"  # it may speak for some, in one route
_SCOPE: Final = SpeaksFor(roles=("lead",), people=("eve",), routes=("office",))
_ID: Final = {"CEM": "cem", "slack:C": "cem"}
_LONG_MS: Final = 25 * 3_600_000
# the manners in which answers are signed, by how often
_MANNERS: Final = ("own",) * 10 + ("gateway",) * 5 + ("old", "another's", "forged", "unknown", "elsewhere", "long ago")
_PKCS8: Final = bytes.fromhex("302e020100300506032b657004220420")  # RFC 8410, before the 32 bytes of the key


@cache
def key_of(name: str) -> SigningKey:
    """The key of this name, the same in each run."""
    from joserfc.jwk import OKPKey  # noqa: PLC0415 - only where people sign: it takes 0.2 s to load

    return SigningKey(OKPKey.import_key(_PKCS8 + sha256(name.encode()).digest()))


class Signers:
    """Who signs with which key at present."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._keys = dict.fromkeys(PEOPLE, 1)  # the number of each person's newest key

    def begin(self) -> None:
        """Apply a key of each person, and the gateway's."""
        for name in PEOPLE:
            self._apply(name)
        self._send_key(GATEWAY, GATEWAY, _SCOPE)

    def renew(self, name: str) -> None:
        """Revoke the person's key. The next one is applied now, and is valid as late."""
        ground = self._ground
        ground.note("operator", f"revokes the key of {name}")
        old = key_of(f"{name}/{self._keys[name]}")
        ground.send(encode_revocation(old.kid, topics=ground.topics, by="ops", at_ms=ground.clock.now_ms()))
        self._keys[name] += 1
        self._apply(name)

    def _apply(self, name: str) -> None:
        self._send_key(f"{name}/{self._keys[name]}", name, None)

    def _send_key(self, key: str, person: str, scope: SpeaksFor | None) -> None:
        ground = self._ground
        record = encode_key(
            key_of(key).x,
            topics=ground.topics,
            person=person,
            by="ops",
            at_ms=ground.clock.now_ms(),
            speaks_for=scope,
        )
        ground.send(record)

    def signer(self, by: str) -> Signer | None:
        """How the person signs this time; None: not at all."""
        rng = self._ground.rng
        manner = "own" if self._ground.is_calm else rng.choice((*_MANNERS, "bare", "bare"))
        if manner == "bare":
            return None
        name = _ID.get(by, by)
        number = self._keys.get(name, 1)
        own = f"{name}/{max(number - (manner == 'old'), 1)}"
        other = f"{rng.choice(PEOPLE)}/1"
        key = {"gateway": GATEWAY, "another's": other, "unknown": "nobody"}.get(manner, own)
        mesh = "mesh.@elsewhere" if manner == "elsewhere" else self._ground.mesh
        return Signer(mesh, self._sign(key_of(key), manner, key_of(other)))

    def _sign(self, key: SigningKey, manner: str, other: SigningKey) -> Callable[[dict[str, Any]], str]:
        def sign(body: dict[str, Any]) -> str:
            if manner == "gateway":
                body = {**body, "via": {"signer": GATEWAY}}
            if manner == "long ago":
                body = {**body, "answered_at": rfc3339(self._ground.clock.now_ms() - _LONG_MS)}
            signed = key.sign(body)
            if manner == "forged":  # it claims the key of its person, and has another's signature
                return f"{signed.rpartition('.')[0]}.{other.sign(body).rpartition('.')[2]}"
            return signed

        return sign
