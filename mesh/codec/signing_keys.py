"""Private keys of people who sign: making, keeping and using one.

Owns the key's file, which is PEM (PKCS 8), with a passphrase if its owner wants one, and is read by
its owner alone. Nothing here ever leaves this machine but signatures and the public key.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from mesh.codec.approver_keys import thumbprint
from mesh.codec.signed_answers import ALGORITHM, TYPE
from mesh.errors import OperatorError

if TYPE_CHECKING:
    from joserfc.jwk import OKPKey


class SigningKey:
    """A private key that signs answers. `kid`: of its public half. `x`: that half's bytes."""

    def __init__(self, key: "OKPKey") -> None:
        self._key = key
        self.x = str(key.as_dict(private=False)["x"])
        self.kid = thumbprint(self.x)

    @property
    def public_jwk(self) -> dict[str, str]:
        return {"kty": "OKP", "crv": "Ed25519", "x": self.x, "kid": self.kid, "alg": ALGORITHM, "use": "sig"}

    def sign(self, body: dict[str, Any]) -> str:
        """The JWS of an answer's body, in compact form."""
        from joserfc import jws  # noqa: PLC0415 - only who signs needs it

        header = {"alg": ALGORITHM, "kid": self.kid, "typ": TYPE}
        return jws.serialize_compact(header, orjson.dumps(body), self._key, algorithms=[ALGORITHM])


def make_key(path: Path, passphrase: str | None) -> SigningKey:
    """Make a key, and keep it in a file that only its owner may read.

    Raises `OperatorError` if the file is there: nobody could sign with what it holds any more.
    """
    from joserfc.jwk import OKPKey  # noqa: PLC0415 - only who signs needs it

    key = OKPKey.generate_key("Ed25519", private=True)
    # its kid is an argument of commands, where it would be taken for an option
    while SigningKey(key).kid.startswith("-"):
        key = OKPKey.generate_key("Ed25519", private=True)
    pem = key.as_pem(private=True, password=passphrase)
    try:
        # with its mode from the start: the file must not be open to others for a moment
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
    except FileExistsError as error:
        raise OperatorError(f"{path} is there already, and is left as it is: name another file") from error
    except OSError as error:
        raise OperatorError(f"{path} can't be written: {error.strerror or error}") from error
    return SigningKey(key)


def is_encrypted(path: Path) -> bool:
    """Whether the key in the file needs a passphrase. Raises `OperatorError`."""
    return b"ENCRYPTED" in _read(path)


def load_key(path: Path, passphrase: str | None = None) -> SigningKey:
    """The key in a file. Raises `OperatorError`, without a word of what the file holds."""
    from joserfc.jwk import OKPKey  # noqa: PLC0415 - only who signs needs it

    pem = _read(path)
    try:
        key = OKPKey.import_key(pem, password=passphrase)
        is_ours = key.is_private and key.as_dict(private=False).get("crv") == "Ed25519"
    except (ValueError, TypeError) as error:
        raise OperatorError(f"{path} can't be used as a key: is it a private key, and the passphrase right?") from error
    if not is_ours:
        raise OperatorError(f"{path} holds no private key of Ed25519: `mesh approver keygen` makes one")
    return SigningKey(key)


def _read(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        pem = path.read_bytes()
    except OSError as error:
        raise OperatorError(f"the key {path} can't be read: {error.strerror or error}") from error
    # as ssh does: a key that others may read is nobody's alone
    if os.name == "posix" and mode & 0o077:
        raise OperatorError(f"the key {path} may be read by others: chmod 600 {path}")
    return pem
