"""`mesh approver`: keys are added and ended once, by whom and why; a private key stays at home."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mesh.cli.app import mesh
from mesh.cli.approvals.audit import audit_of
from mesh.core.approvals import Group, Terms, Vote
from mesh.core.events import AnswerSigned, ApprovalClosed2, ApprovalRequested2, Cause, Decision, PayloadEdited, VoteCast
from mesh.core.signing import Proof

PEOPLE = "people: {ana: {names: [slack:U1], roles: [manager]}}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mesh on SQLite whose topic has ana."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{tmp_path}/mesh.db")
    monkeypatch.setenv("MESH_BY", "ops")
    call("topics", "apply")
    (tmp_path / "approvers.yaml").write_text(PEOPLE)
    call("people", "apply", "approvers.yaml", "--yes")
    return tmp_path


def call(*arguments: str, code: int = 0, stdin: str | None = None) -> Result:
    ran = CliRunner().invoke(mesh, arguments, input=stdin)
    assert ran.exit_code == code, ran.output
    return ran


def keygen(name: str = "ana", *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call("approver", "keygen", f"{name}.pem", *options).stdout)
    return found


def keys() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(call("approver", "--json").stdout)["keys"]
    return found


def test_a_key_is_made_and_only_its_public_half_is_printed(folder: Path) -> None:
    jwk = keygen()
    assert jwk.keys() == {"kty", "crv", "x", "kid", "alg", "use"}
    assert stat.S_IMODE((folder / "ana.pem").stat().st_mode) == 0o600
    assert "is there already" in call("approver", "keygen", "ana.pem", code=2).stderr


def test_a_passphrase_comes_from_a_file_or_is_asked_for(folder: Path) -> None:
    (folder / "secret").write_text("open sesame\n")
    keygen("one", "--passphrase-file", "secret")
    assert "ENCRYPTED" in (folder / "one.pem").read_text()
    call("approver", "keygen", "two.pem", "--passphrase", stdin="a\na\n")
    assert "ENCRYPTED" in (folder / "two.pem").read_text()
    (folder / "empty").write_text("\n")
    assert "is empty" in call("approver", "keygen", "three.pem", "--passphrase-file", "empty", code=2).stderr


def test_a_key_is_a_person_s_under_their_id_and_is_there_once(folder: Path) -> None:
    jwk = keygen()
    (folder / "ana.jwk").write_text(json.dumps(jwk))
    assert "No keys" in call("approver").stdout
    assert f"The key {jwk['kid']} is ana's" in call("approver", "add", "slack:U1", "ana.jwk", "--reason", "new").stdout
    [known] = keys()
    assert (known["kid"], known["person"], known["by"], known["reason"], known["revoked"]) == (
        jwk["kid"],
        "ana",
        "ops",
        "new",
        None,
    )
    assert jwk["kid"] in call("approver").stdout
    assert "is there already" in call("approver", "add", "ana", json.dumps(jwk), code=2).stderr


def test_a_key_of_nobody_and_a_private_one_are_refused(folder: Path) -> None:
    text = json.dumps(keygen())
    assert "nobody is called 'eve'" in call("approver", "add", "eve", text, code=3).stderr
    assert "is not taken" in call("approver", "add", "ana", "{}", code=2).stderr
    assert "can't be read" in call("approver", "add", "ana", "none.jwk", code=2).stderr
    assert "--route goes with" in call("approver", "add", "ana", text, "--route", "pay", code=2).stderr
    assert "is a person's name" in call("approver", "add", "ana", text, "--speaks-for-role", "x", code=2).stderr
    assert keys() == []


def test_a_gateway_says_for_whom_it_speaks(folder: Path) -> None:
    text = json.dumps(keygen("console"))
    options = ("--speaks-for-role", "manager", "--speaks-for", "ana", "--route", "pay")
    added = json.loads(call("approver", "add", "console", "-", *options, "--json", stdin=text).stdout)
    assert added["speaks_for"] == {"roles": ["manager"], "people": ["ana"], "routes": ["pay"]}
    assert "role manager, ana in pay" in call("approver").stdout


def test_a_key_ends_once_and_for_all(folder: Path) -> None:
    jwk = keygen()
    call("approver", "add", "ana", json.dumps(jwk))
    ended = json.loads(call("approver", "revoke", jwk["kid"], "--since", "2h", "--reason", "lost", "--json").stdout)
    assert (ended["revoked"]["by"], ended["revoked"]["reason"]) == ("ops", "lost")
    assert ended["revoked"]["since"] < ended["revoked"]["at"] < ended["revoked"]["in_effect_from"]
    assert "lost" in call("approver").stdout
    assert "was revoked" in call("approver", "revoke", jwk["kid"], "--reason", "again", code=2).stderr
    assert "never comes back" in call("approver", "add", "ana", json.dumps(jwk), code=2).stderr
    assert "there is no key" in call("approver", "revoke", "other", "--reason", "x", code=3).stderr
    other = keygen("new")
    call("approver", "add", "ana", json.dumps(other))
    assert "is revoked" in call("approver", "revoke", other["kid"], "--reason", "x").stdout


def test_a_workflow_that_nobody_knows_is_not_exported(folder: Path) -> None:
    assert "no decision about pay:1" in call("log", "export", "--workflow", "pay:1", code=3).stderr


# The story of an approval -------------------------------------------------------------------------

ID = "pay:1/00000001/review"
PROOF = Proof(kid="k1", signer="ana", how="own")


def decision(*events: Any, kind: str = "answer", at_ms: int = 5) -> Decision:
    cause = Cause(kind=kind, id="c", at_ms=at_ms, source_topic="t", source_partition=0, source_offset=at_ms)
    return Decision(
        epoch="e", workflow_id="pay:1", at_ms=at_ms + 1, cause=cause, positions={}, mark=0, events=tuple(events)
    )


def test_an_audit_has_editions_with_what_they_change_and_each_answer_with_its_proof() -> None:
    vote = Vote(by="ana", choice="approve", digest="d2", at_ms=7, proof=PROOF)
    about: dict[str, Any] = {"step": "review", "approval_id": ID}
    signed = AnswerSigned(approval_id=ID, answer_id="a", by="ana", jws="x.y.z", proof=PROOF)
    asked = ApprovalRequested2(
        **about,
        question="Pay?",
        payload={"n": 1},
        digest="d1",
        role="manager",
        on_expiry="reject",
        traceparent="",
        reason="it began",
        terms=Terms(groups=(Group(need=1, role="manager"),)),
    )
    edited = PayloadEdited(**about, by="ben", at_ms=6, answer_id="b", payload={"n": 2}, digest="d2", edition=2, need=1)
    cast = VoteCast(**about, vote=vote, edition=2, have=1, need=1)
    closed = ApprovalClosed2(
        **about,
        verdict="approved",
        payload={"n": 2},
        by="ana",
        answer_id="a",
        choice="approve",
        edition=2,
        rule="1 of manager",
        have=1,
        need=1,
        votes=(vote,),
    )
    refused = AnswerSigned(approval_id=ID, answer_id="f", by="eve", jws="x.y.z")
    rows = audit_of(
        [
            decision(asked, kind="event", at_ms=4),
            decision(edited, at_ms=6),
            decision(refused, at_ms=7),
            decision(signed, cast, closed, at_ms=8),
            decision(kind="timer"),
        ],
        ID,
    )
    assert [(row.at_ms, row.edition, row.digest, row.diff) for row in rows] == [
        (5, 1, "d1", ()),
        (6, 2, "d2", ('-  "n": 1', '+  "n": 2')),
        (7, 0, "", ()),
        (8, 0, "", ()),
    ]
    assert [(row.by, row.code, row.proof, row.refused_proof) for row in rows[1:]] == [
        ("ben", "edited", None, False),
        ("", "", None, True),
        ("ana", "accepted", PROOF, False),
    ]
    assert rows[-1].what[-1] == "by the rule: 1 of manager"


def test_what_was_decided_is_listed_apart_from_what_is_open() -> None:
    assert "--since goes with --closed" in call("approvals", "--since", "2h", code=2).stderr
    assert "alone" in call("approvals", "--closed", "--mine", code=2).stderr
