"""Keys and their ends as records, and which key counts when. Private keys stay private."""

import json
import stat
from pathlib import Path

import pytest
from signing_kit import added, key, known, revoked

from mesh.codec.approver_keys import (
    JwkInvalid,
    decode_key_record,
    encode_key,
    encode_revocation,
    public_x,
    thumbprint,
)
from mesh.codec.signed_answers import is_signed
from mesh.codec.signing_keys import is_encrypted, load_key, make_key
from mesh.core.activation import DELAY_MS
from mesh.core.approver_keys import ApproverKey, Revocation, SpeaksFor
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord, OperatorError
from mesh.ports import OutRecord, Record

TOPICS = Topics()
# RFC 8037, appendix A.3
RFC_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC_KID = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
AT_MS = 1_764_500_000_000


def read(sent: OutRecord) -> ApproverKey | Revocation | None:
    return decode_key_record(Record(sent.topic, 0, 1, AT_MS, sent.key, sent.value, sent.headers))


def raw(key_: bytes, value: object) -> Record:
    return Record(TOPICS.people, 0, 1, AT_MS, key_, None if value is None else json.dumps(value).encode(), ())


def test_a_key_s_id_is_its_thumbprint() -> None:
    assert thumbprint(RFC_X) == RFC_KID


def test_a_key_and_its_end_are_read_as_they_were_written() -> None:
    scope = SpeaksFor(roles=("manager",), routes=("pay",))
    sent = encode_key(RFC_X, topics=TOPICS, person="ana", by="ops", at_ms=1, reason="new", speaks_for=scope)
    assert (sent.key, sent.partition) == (f"key/{RFC_KID}".encode(), 0)
    assert read(sent) == ApproverKey(
        kid=RFC_KID, person="ana", x=RFC_X, by="ops", at_ms=AT_MS, reason="new", speaks_for=scope
    )
    end = encode_revocation(RFC_KID, topics=TOPICS, by="ops", at_ms=1, reason="lost", since_ms=5_000)
    assert read(end) == Revocation(kid=RFC_KID, by="ops", at_ms=AT_MS, reason="lost", since_ms=5_000)
    assert read(encode_revocation(RFC_KID, topics=TOPICS, by="ops", at_ms=1)) == Revocation(
        kid=RFC_KID, by="ops", at_ms=AT_MS
    )


@pytest.mark.parametrize(
    "record",
    [
        raw(b"key/abc", {"person": "ana", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": RFC_X}, "by": "ops"}),
        raw(b"key/abc", {"person": "ana"}),
        raw(b"key/abc", {"person": "ana", "jwk": {"kty": "EC", "crv": "P-256", "x": RFC_X}, "by": "ops"}),
        raw(b"revocation/abc", {"by": "ops", "since": "yesterday"}),
        raw(b"revocation/abc", []),
    ],
)
def test_a_record_that_does_not_hold_is_no_key(record: Record) -> None:
    with pytest.raises(MalformedRecord):
        decode_key_record(record)


def test_other_records_are_passed_over() -> None:
    assert decode_key_record(raw(b"people/sha256:1", {})) is None
    assert decode_key_record(raw(b"key/abc", None)) is None
    assert decode_key_record(Record(TOPICS.people, 0, 1, AT_MS, None, b"{}", ())) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no json", "no JWK"),
        ('{"kty": "OKP"}', "no JWK"),
        (json.dumps({"kty": "OKP", "crv": "Ed25519", "x": RFC_X, "d": RFC_X}), "private"),
        (json.dumps({"kty": "OKP", "crv": "X25519", "x": RFC_X}), "X25519"),
        (json.dumps({"kty": "OKP", "crv": "Ed25519", "x": RFC_X + "="}), "32 bytes"),
        (json.dumps({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}), "32 bytes"),
        (json.dumps({"kty": "OKP", "crv": "Ed25519", "x": "A"}), "base64url"),
    ],
)
def test_only_a_public_key_of_ed25519_is_taken(text: str, says: str) -> None:
    with pytest.raises(JwkInvalid, match=says):
        public_x(text)


def test_a_public_key_is_taken() -> None:
    assert public_x(json.dumps(key().public_jwk)) == key().x


# When a key counts --------------------------------------------------------------------------------


def test_the_first_record_of_a_key_and_of_its_end_is_the_one() -> None:
    one, end = added(at_ms=1_000), revoked(at_ms=5_000, since_ms=3_000)
    found = known(one, added(at_ms=9_000), end, revoked(at_ms=7_000), added(at_ms=20_000))[key().kid]
    assert (found.key, found.from_ms, found.revocation) == (one, 1_000 + DELAY_MS, end)
    # times never fall in the order of the topic, also where the broker's clock was put back
    assert found.until_ms == 9_000 + DELAY_MS
    assert found.distrusted_ms == 3_000
    assert [found.is_valid(at_ms) for at_ms in (2_999, 3_000, 10_999, 11_000)] == [False, True, True, False]


def test_a_key_is_trusted_until_its_end() -> None:
    assert known(added())[key().kid].distrusted_ms is None
    assert known(added(), revoked(at_ms=5_000))[key().kid].distrusted_ms == 5_000 + DELAY_MS


def test_the_end_of_a_key_that_nobody_has_is_nothing() -> None:
    assert known(revoked(at_ms=1), added())[key().kid].revocation is None


# Private keys -------------------------------------------------------------------------------------


def test_a_key_is_kept_for_its_owner_alone_and_signs(tmp_path: Path) -> None:
    file = tmp_path / "ana.pem"
    made = make_key(file, None)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not is_encrypted(file)
    assert not made.kid.startswith("-"), "it is an argument of commands"
    assert is_signed(load_key(file).sign({"a": 1}), made.x)
    with pytest.raises(OperatorError, match="is there already"):
        make_key(file, None)
    file.chmod(0o644)
    with pytest.raises(OperatorError, match="chmod 600"):
        load_key(file)


def test_a_passphrase_is_needed_where_there_is_one(tmp_path: Path) -> None:
    file = tmp_path / "ana.pem"
    made = make_key(file, "secret")
    assert is_encrypted(file)
    assert load_key(file, "secret").kid == made.kid
    for wrong in ("other", None):
        with pytest.raises(OperatorError, match="passphrase"):
            load_key(file, wrong)


def test_what_is_no_private_key_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "ana.pem"
    with pytest.raises(OperatorError, match="can't be read"):
        load_key(file)
    with pytest.raises(OperatorError, match="can't be written"):
        make_key(tmp_path / "none" / "ana.pem", None)
    for text in ("nothing", json.dumps(key().public_jwk)):
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(OperatorError, match="key"):
            load_key(file)
