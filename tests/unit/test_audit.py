"""A bundle holds as the router wrote it, and every change of it is one failure or more.

Each check has a bundle that fails it alone or first.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from signed_mesh import ROUTE, SignedMesh
from signing_kit import header, key, with_signature

from mesh.cli.app import mesh as command_line
from mesh.codec.jws_bodies import encode_signed
from mesh.core.activation import DELAY_MS
from mesh.core.json_values import digest
from mesh.inspection.audit import BundleInvalid, Report, read_bundle, verify
from mesh.testing.virtual_time.loop import VirtualTimeLoop, run

Line = dict[str, Any]
Change = Callable[[list[Line]], None]
FIRST = ROUTE.replace(', quorum: 2, not: {people: ["eve"]}', "")


@cache
def exported(*, answers: str = "gateway", route: str = ROUTE, story: str = "votes") -> tuple[bytes, ...]:
    """The bundle of an approval: ana edits and votes, ben votes, and some answers are refused."""
    found: list[bytes] = []

    async def main(loop: VirtualTimeLoop) -> None:
        mesh = SignedMesh(loop, answers=answers, route=route)  # type: ignore[arg-type]
        await mesh.begin()
        approval = await mesh.ask()
        forged = with_signature(header("ana"), mesh.body(approval, "ana"), "eve")
        await mesh.send(encode_signed(forged, None, is_edit=False))
        if story == "first":
            await mesh.answer(approval, "ana")
        elif story == "bare":
            await mesh.send(json.dumps(bare(approval, "ana")).encode())
            await mesh.send(json.dumps(bare(approval, "ben")).encode())
        else:
            await mesh.answer(approval, "ana", payload={"n": 2})
            approval = (approval[0], digest({"n": 2}))
            await mesh.answer(approval, "ben", decision="comment", text="hm")
            await mesh.answer(approval, "ben", decision="withdraw")
            await mesh.answer(approval, "eve")
            await mesh.answer(approval, "ben")
        if story == "distrust":
            await mesh.write(mesh.end_of("ben", since_ms=0))
            await asyncio.sleep(DELAY_MS / 1_000)
        found.extend(mesh.bundle(approval))
        await mesh.stop()

    run(main)
    return tuple(found)


def bare(approval: tuple[str, str], by: str) -> Line:
    return {"approval_id": approval[0], "decision": "approve", "by": by, "digest": approval[1]}


def report(lines: Sequence[bytes] | None = None) -> Report:
    return verify(read_bundle(exported() if lines is None else lines))


def changed(change: Change, lines: Sequence[bytes] | None = None) -> list[bytes]:
    """The bundle after somebody has changed it. Values of records are decoded for that."""
    opened = [json.loads(line) for line in (exported() if lines is None else lines)]
    for line in opened[1:]:
        line["value"] = json.loads(line["value"])
    change(opened)
    for line in opened[1:]:
        line["value"] = json.dumps(line["value"])
    return [json.dumps(line).encode() for line in opened]


def is_decision(line: Line) -> bool:
    return "log" in line and "events" in line.get("value", {})


def events(lines: list[Line], kind: str) -> list[Line]:
    return [
        event
        for line in lines
        if is_decision(line)
        for event in line["value"].get("events", ())
        if event["event"] == kind
    ]


def records(lines: list[Line], prefix: str) -> list[Line]:
    return [line for line in lines if line.get("key", "").startswith(prefix)]


def of(found: Report) -> str:
    return "\n".join(one.what for one in found.failures)


# What holds ---------------------------------------------------------------------------------------


def test_what_the_router_wrote_holds() -> None:
    found = report()
    assert not found.failures
    assert (found.approvals, found.signed, found.claimed, found.unproven) == (1, 5, 0, 0)


def test_what_nobody_has_signed_is_claimed() -> None:
    found = report(exported(answers="none", story="bare"))
    assert not found.failures
    assert (found.signed, found.claimed) == (0, 2)


def test_the_first_answer_of_an_old_approval_is_checked_too() -> None:
    lines = exported(answers="none", route=FIRST, story="first")
    assert not report(lines).failures

    def take_role(opened: list[Line]) -> None:
        events(opened, "ApprovalClosed.1")[0]["role"] = "boss"

    def turn(opened: list[Line]) -> None:
        events(opened, "ApprovalClosed.1")[0]["verdict"] = "rejected"

    assert "did not have the role boss" in of(report(changed(take_role, lines)))
    assert "has signed another" in of(report(changed(turn, lines)))


def test_what_was_counted_since_a_key_is_distrusted_is_listed() -> None:
    found = of(report(exported(story="distrust")))
    assert "the answer of ben counts, and its key is distrusted since then: stolen" in found
    assert "ana" not in found


# What was changed ---------------------------------------------------------------------------------


def _body(opened: list[Line]) -> None:
    signed = next(one for one in events(opened, "AnswerSigned.1") if one.get("proof") and one["by"] == "ben")
    head, _, signature = signed["jws"].split(".")
    other = with_signature(header("ben"), {"by": "ben"}, "ben").split(".")[1]
    signed["jws"] = f"{head}.{other}.{signature}"


def _another_key(opened: list[Line]) -> None:
    for line in records(opened, f"key/{key('ben').kid}"):
        line["value"]["person"] = "eve"


def _no_key(opened: list[Line]) -> None:
    opened[:] = [line for line in opened if not line.get("key", "").startswith(f"key/{key('ben').kid}")]


def _late_key(opened: list[Line]) -> None:
    for line in records(opened, f"key/{key('ben').kid}"):
        line["at"] += 10**9


def _ended_key(opened: list[Line]) -> None:
    at = next(n for n, line in enumerate(opened) if is_decision(line))
    end = {"people": 99, "at": 0, "key": f"revocation/{key('ben').kid}", "value": {"by": "ops", "reason": "x"}}
    opened.insert(at, end)


def _no_signature(opened: list[Line]) -> None:
    for line in opened:
        if is_decision(line):
            kept = [one for one in line["value"]["events"] if one["event"] != "AnswerSigned.1"]
            line["value"]["events"] = kept


def _other_mesh(opened: list[Line]) -> None:
    opened[0]["mesh"] = "mesh.@other"


def _withheld(opened: list[Line]) -> None:
    signed = next(one for one in events(opened, "AnswerSigned.1") if one.get("proof") and one["by"] == "eve")
    del signed["proof"]


def _other_signer(opened: list[Line]) -> None:
    next(one for one in events(opened, "AnswerSigned.1") if one.get("proof"))["proof"]["signer"] = "eve"


def _vote(**fields: Any) -> Change:
    def change(opened: list[Line]) -> None:
        events(opened, "VoteCast.1")[-1]["vote"].update(fields)

    return change


def _set(kind: str, **fields: Any) -> Change:
    def change(opened: list[Line]) -> None:
        events(opened, kind)[0].update(fields)

    return change


def _terms(**fields: Any) -> Change:
    def change(opened: list[Line]) -> None:
        events(opened, "ApprovalRequested.2")[0]["terms"].update(fields)

    return change


def _lost_role(opened: list[Line]) -> None:
    """Another version of the people, as if it had been in effect."""
    version = records(opened, "people/")[0]
    people = {"people": {**version["value"]["people"], "ben": {"roles": ["clerk"]}}}
    version["value"], version["key"] = people, f"people/{digest(people)}"
    records(opened, "activation/")[0]["value"]["people"] = digest(people)


def _no_version(opened: list[Line]) -> None:
    opened[:] = [line for line in opened if not line.get("key", "").startswith("people/")]


def _no_edit(opened: list[Line]) -> None:
    for line in opened:
        if is_decision(line):
            kept = [one for one in line["value"]["events"] if one["event"] != "PayloadEdited.1"]
            line["value"]["events"] = kept


def _twice(opened: list[Line]) -> None:
    at = next(n for n, line in enumerate(opened) if "NoteAdded" in json.dumps(line))
    again = json.loads(json.dumps(opened[at]))
    again["log"] += 0.5
    opened.insert(at + 1, {**again, "log": opened[at]["log"] + 1})
    for line in opened[at + 2 :]:
        line["log"] += 1


def _after_the_end(opened: list[Line]) -> None:
    last = max(n for n, line in enumerate(opened) if "VoteCast" in json.dumps(line))
    vote = json.loads(json.dumps(opened[last]))
    vote["value"]["events"] = [one for one in vote["value"]["events"] if one["event"] == "VoteCast.1"]
    opened.append({**vote, "log": opened[-1]["log"] + 1})


def _order(opened: list[Line]) -> None:
    opened[-1]["log"] = 0


def _nothing(opened: list[Line]) -> None:
    opened[:] = opened[:1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(_body, "the signature of ben does not hold", id="signed body"),
        pytest.param(_another_key, "is of eve, and not of ben", id="the key's person"),
        pytest.param(_no_key, "nobody has the key", id="no key"),
        pytest.param(_late_key, "was not in effect yet", id="a key of later"),
        pytest.param(_ended_key, "was revoked before", id="a key of before"),
        pytest.param(_no_signature, "must be signed, and the log has no signature", id="signature taken away"),
        pytest.param(_no_signature, "has a proof, and the log has no signature", id="a proof alone"),
        pytest.param(_other_mesh, "signed for the mesh", id="another mesh"),
        pytest.param(_withheld, "was refused for its signature, which holds", id="refused though it holds"),
        pytest.param(_other_signer, "it was another key", id="another signer"),
        pytest.param(_vote(by="eve"), "counts as one of eve", id="another voter"),
        pytest.param(_vote(by="eve"), "eve has voted and was excluded", id="an excluded voter"),
        pytest.param(_vote(by="dan"), "dan had no right to vote", id="a voter without a role"),
        pytest.param(_vote(choice="reject"), "ben is reject, and they signed another", id="another choice"),
        pytest.param(_vote(digest="sha256:1"), "not for the payload of the edition", id="another digest"),
        pytest.param(_vote(digest="sha256:1"), "for another payload than they have signed", id="a digest unsigned"),
        pytest.param(_vote(roles=["boss"]), "did not have the roles that the vote says: boss", id="more roles"),
        pytest.param(_vote(people="sha256:1"), "was judged by version sha256:1", id="another version"),
        pytest.param(_lost_role, "ben had no right to vote at that time", id="another people"),
        pytest.param(_no_version, "which judged ben, is not here", id="no people"),
        pytest.param(_set("PayloadEdited.1", payload={"n": 3}), "is not what its digest says", id="another edition"),
        pytest.param(
            _set("PayloadEdited.1", payload={"n": 3}, digest=digest({"n": 3})),
            "is not the one that ana",
            id="unsigned edit",
        ),
        pytest.param(_no_edit, "closed with another payload", id="edit taken away"),
        pytest.param(_set("NoteAdded.1", by="eve"), "counts as one of eve", id="another author"),
        pytest.param(_set("ApprovalClosed.2", verdict="rejected", choice="reject"), "come to approved", id="verdict"),
        pytest.param(_set("ApprovalClosed.2", votes=[]), "not those in force", id="votes of the verdict"),
        pytest.param(_set("ApprovalClosed.2", expired=True), "expired before its deadline", id="expiry"),
        pytest.param(_set("ApprovalClosed.2", expired=True), "say another verdict", id="expired verdict"),
        pytest.param(_terms(reject_need=9, groups=[{"need": 3, "role": "lead"}]), "come to nothing", id="terms"),
        pytest.param(_terms(not_editors=True), "they have edited it", id="editors"),
        pytest.param(
            _terms(signed="own", editing={"limit": 1, "role": "boss"}), "no right to edit", id="editor's right"
        ),
        pytest.param(_twice, "counts twice", id="twice"),
        pytest.param(_after_the_end, "though it is not open", id="after the end"),
        pytest.param(_order, "is not behind", id="order"),
        pytest.param(_nothing, "no decision about it", id="empty"),
    ],
)
def test_a_change_is_found(change: Change, says: str) -> None:
    assert says in of(report(changed(change)))


def test_words_that_were_signed_as_others_are_found() -> None:
    def take(opened: list[Line]) -> None:
        events(opened, "VoteTakenBack.1")[0]["answer_id"] = events(opened, "NoteAdded.1")[0]["answer_id"]

    assert "VoteTakenBack is not what ben has signed" in of(report(changed(take)))


def test_a_forged_answer_under_the_id_of_a_true_one_hides_nothing() -> None:
    def copy(opened: list[Line]) -> None:
        forged = next(one for one in events(opened, "AnswerSigned.1") if not one.get("proof"))
        forged["answer_id"] = next(one for one in events(opened, "VoteCast.1"))["vote"]["answer_id"]

    assert not report(changed(copy)).failures


# The file and the command -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "line 1"),
        ([b"{}"], "line 1"),
        ([exported()[0].replace(b'"bundle":1', b'"bundle":2')], "version 2"),
        ([exported()[0], b"no json"], "line 2"),
        ([exported()[0], b'{"log": 1, "at": 1, "value": "{}"}'], "line 2"),
        ([exported()[0], b'{"people": 1, "at": 1, "key": "key/1", "value": "{}"}'], "line 2"),
    ],
)
def test_what_is_no_bundle_is_said_with_its_line(lines: list[bytes], says: str) -> None:
    with pytest.raises(BundleInvalid, match=says):
        read_bundle(lines)


def test_decisions_of_others_and_of_owners_that_were_deposed_do_not_count() -> None:
    def depose(opened: list[Line]) -> None:
        vote = next(line for line in opened if "VoteCast" in json.dumps(line))
        vote["value"]["epoch"] = "another"

    found = report(changed(depose))
    assert found.decisions == report().decisions - 1


def test_the_command_prints_a_line_for_each_failure_and_exits_with_one(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_bytes(b"\n".join(exported()))
    bad.write_bytes(b"\n".join(changed(_vote(choice="reject"))))
    runner = CliRunner()
    held = runner.invoke(command_line, ["audit", "verify", str(good)])
    assert (held.exit_code, held.stdout) == (
        0,
        "pay:e0: 7 decisions, 1 approval; 5 signatures, 0 claimed; all of it holds\n",
    )
    failed = runner.invoke(command_line, ["audit", "verify", str(bad)])
    assert failed.exit_code == 1
    assert failed.stdout.count("\n! ") + failed.stdout.startswith("! ") == len(
        verify(read_bundle(changed(_vote(choice="reject")))).failures
    )
    document = json.loads(runner.invoke(command_line, ["audit", "verify", str(bad), "--json"]).stdout)
    assert document["failures"][0]["what"] == "the vote of ben is reject, and they signed another"
    claimed = tmp_path / "claimed.jsonl"
    claimed.write_bytes(b"\n".join(exported(answers="none", story="bare")))
    assert "nobody has signed it" in runner.invoke(command_line, ["audit", "verify", str(claimed)]).stdout
    assert runner.invoke(command_line, ["audit", "verify", str(tmp_path / "none")]).exit_code == 2
