"""What messages say, to people and to programs."""

import pytest
from msgspec.structs import replace

from mesh.codec.notices import Notice, What
from mesh.inspection.inbox import OpenRow
from mesh.notifier.messages import Shown, Waits, as_slack, of_digest, of_notices

ID = "pay:it's 4711/4f2a/review"
NOTICE = Notice(
    id=f"{ID}/asked/1/ana",
    what="asked",
    number=1,
    person="ana",
    channel="email",
    at="2026-01-01T00:00:00.000Z",
    approval_id=ID,
    question="Pay 5?",
    requester="cleo",
    deadline_at="2026-01-02T00:00:00.000Z",
)


def text_of(**more: object) -> str:
    return of_notices([replace(NOTICE, **more)], {}, "").text


def test_a_message_has_the_question_who_asks_until_when_and_the_command() -> None:
    message = of_notices([NOTICE], {}, "")
    assert message.title == "Pay 5?"
    assert message.text == (
        "Your approval is wanted.\n\nPay 5?\n\n"
        "asked by   cleo\nuntil      2026-01-02T00:00:00.000Z\napproval   pay:it's 4711/4f2a/review\n\n"
        """To answer: mesh approve 'pay:it'"'"'s 4711/4f2a/review'\n"""
        """           mesh reject 'pay:it'"'"'s 4711/4f2a/review' --reason ..."""
    )
    assert "asked by   route pay" in text_of(requester="")
    assert "until      no deadline" in text_of(deadline_at=None)


def test_choices_and_a_console_change_how_to_answer() -> None:
    shown = {ID: Shown(("refund", "voucher", "reject"))}
    message = of_notices([NOTICE], shown, "")
    assert message.text.endswith("review' refund|voucher|reject")
    assert message.body["data"]["command"].startswith("mesh choose ")
    linked = of_notices([NOTICE], shown, "https://mesh.example.org")
    lines = linked.text.splitlines()
    assert lines[-2] == "To answer: https://mesh.example.org/approval?id=pay%3Ait%27s%204711%2F4f2a%2Freview"
    # the link is beside the command, not in its place
    assert lines[-1].strip().startswith("mesh choose ")
    assert linked.body["data"]["url"].endswith("pay%3Ait%27s%204711%2F4f2a%2Freview")


@pytest.mark.parametrize(
    ("what", "title", "begins"),
    [
        ("asked", "Pay 5?", "Your approval is wanted."),
        ("stage", "Pay 5?", "Your approval is wanted, because others"),
        ("edited", "Edited: Pay 5?", "The payload was edited, and your vote"),
        ("extended", "Deadline moved: Pay 5?", "The deadline was moved."),
        ("reminder", "Reminder: Pay 5?", "This still waits"),
        ("closed", "Closed as approved: Pay 5?", "Pay 5?\n\nIt is closed: approved by ben."),
    ],
)
def test_each_kind_of_notice_says_what_has_happened(what: What, title: str, begins: str) -> None:
    message = of_notices([replace(NOTICE, what=what, verdict="approved", by="ben")], {}, "")
    assert message.title == title
    assert message.text.startswith(begins)
    assert message.body["type"] == f"mesh.approval.{what}"
    assert ("verdict" in message.body["data"]) == (what == "closed")


def test_a_close_that_nobody_knows_more_of_says_so_little() -> None:
    message = of_notices([replace(NOTICE, what="closed")], {}, "")
    assert message.title == "Closed: Pay 5?"
    assert "It is closed." in message.text
    assert message.body["data"]["verdict"] is None


def test_a_question_of_any_text_stays_one_line() -> None:
    forged = "Pay?\r\nBcc: all@example.org\x1b[2J " + "x" * 500
    message = of_notices([replace(NOTICE, question=forged)], {}, "")
    assert message.title.startswith("Pay? Bcc: all@example.org [2J x")
    assert message.title.isprintable()
    assert len(message.title) == 200
    assert as_slack(message._replace(title="<!channel>", text="&"))["text"] == "&lt;!channel&gt;\n&amp;"


def test_a_payload_is_shown_only_if_it_is_given_and_cut_if_it_is_long() -> None:
    assert "payload" not in of_notices([NOTICE], {}, "").body["data"]
    long = of_notices([NOTICE], {ID: Shown(payload={"text": "y" * 5_000})}, "")
    assert long.body["data"]["payload"] == {"text": "y" * 5_000}
    assert "mesh approvals show has all of it" in long.text
    assert of_notices([NOTICE], {ID: Shown(payload=None)}, "").body["data"]["payload"] is None


def test_several_notices_are_one_message_with_a_line_for_each() -> None:
    many = [replace(NOTICE, id=f"{number}", question=f"Pay {number}?") for number in range(25)]
    message = of_notices(many, {}, "")
    assert message.id == "0"
    assert message.title == "25 approvals: Pay 0?, and others"
    assert message.text.count("mesh approvals show") == 20
    assert message.text.endswith("... and 5 more: mesh approvals --mine")


def test_a_digest_lists_what_is_due_first_and_says_how_much_there_is() -> None:
    row = OpenRow(
        approval_id=ID,
        workflow_id="pay:it's 4711",
        route="pay",
        step="review",
        question="Pay 5?",
        role="finance",
        asked_at_ms=1,
        deadline_at_ms=1_767_312_000_000,
    )
    digest = replace(NOTICE, id="digest/20260101/ana", what="digest", approval_id="", question="")
    message = of_digest(digest, Waits([row, replace(row, deadline_at_ms=None)], 30), "https://c")
    assert message.title == "30 approvals wait for you"
    assert "Pay 5? (until 2026-01-02T00:00:00.000Z)\n    https://c/approval?id=" in message.text
    assert message.text.endswith("... and 28 more: mesh approvals --mine")
    assert [one["deadline_at"] for one in message.body["data"]["approvals"]] == ["2026-01-02T00:00:00.000Z", None]
    assert of_digest(digest, Waits([row], 1), "").title == "1 approval waits for you"
