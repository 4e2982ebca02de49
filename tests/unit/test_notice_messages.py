"""What messages say, to people and to programs."""

import re

import pytest
from msgspec.structs import replace

from mesh.codec.links import Links, Pass, approval_ref
from mesh.codec.notices import Notice, What
from mesh.inspection.inbox import OpenRow
from mesh.notifier.couriers import _as_mail
from mesh.notifier.messages import Console, Shown, Waits, as_slack, of_digest, of_notices

ID = "pay:it's 4711/4f2a/review"
NOW_MS = 1_764_500_000_000
NOWHERE = Console()
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
    return of_notices([replace(NOTICE, **more)], {}, NOWHERE).text


def test_a_message_has_the_question_who_asks_until_when_and_the_command() -> None:
    message = of_notices([NOTICE], {}, NOWHERE)
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
    message = of_notices([NOTICE], shown, NOWHERE)
    assert message.text.endswith("review' refund|voucher|reject")
    assert message.body["data"]["command"].startswith("mesh choose ")
    linked = of_notices([NOTICE], shown, Console("https://mesh.example.org"))
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
    message = of_notices([replace(NOTICE, what=what, verdict="approved", by="ben")], {}, NOWHERE)
    assert message.title == title
    assert message.text.startswith(begins)
    assert message.body["type"] == f"mesh.approval.{what}"
    assert ("verdict" in message.body["data"]) == (what == "closed")


def test_a_close_that_nobody_knows_more_of_says_so_little() -> None:
    message = of_notices([replace(NOTICE, what="closed")], {}, NOWHERE)
    assert message.title == "Closed: Pay 5?"
    assert "It is closed." in message.text
    assert message.body["data"]["verdict"] is None


def test_a_question_of_any_text_stays_one_line() -> None:
    forged = "Pay?\r\nBcc: all@example.org\x1b[2J " + "x" * 500
    message = of_notices([replace(NOTICE, question=forged)], {}, NOWHERE)
    assert message.title.startswith("Pay? Bcc: all@example.org [2J x")
    assert message.title.isprintable()
    assert len(message.title) == 200
    assert as_slack(message._replace(title="<!channel>", text="&"))["text"] == "&lt;!channel&gt;\n&amp;"


def test_a_payload_is_shown_only_if_it_is_given_and_cut_if_it_is_long() -> None:
    assert "payload" not in of_notices([NOTICE], {}, NOWHERE).body["data"]
    long = of_notices([NOTICE], {ID: Shown(payload={"text": "y" * 5_000})}, NOWHERE)
    assert long.body["data"]["payload"] == {"text": "y" * 5_000}
    assert "mesh approvals show has all of it" in long.text
    assert of_notices([NOTICE], {ID: Shown(payload=None)}, NOWHERE).body["data"]["payload"] is None


def test_several_notices_are_one_message_with_a_line_for_each() -> None:
    many = [replace(NOTICE, id=f"{number}", question=f"Pay {number}?") for number in range(25)]
    message = of_notices(many, {}, NOWHERE)
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
    message = of_digest(digest, Waits([row, replace(row, deadline_at_ms=None)], 30), Console("https://c"))
    assert message.title == "30 approvals wait for you"
    assert "Pay 5? (until 2026-01-02T00:00:00.000Z)\n    https://c/approval?id=" in message.text
    assert message.text.endswith("... and 28 more: mesh approvals --mine")
    assert [one["deadline_at"] for one in message.body["data"]["approvals"]] == ["2026-01-02T00:00:00.000Z", None]
    assert of_digest(digest, Waits([row], 1), NOWHERE).title == "1 approval waits for you"


# Links that need no sign-in -----------------------------------------------------------------------

LINKS = Links("https://mesh.example.org", ["s" * 32], life_ms=60_000)
LINKED = Console("https://mesh.example.org", LINKS, NOW_MS)


def passes_in(text: str) -> list[Pass]:
    """What the links in a message say."""
    found = [LINKS.read(ref, token) for ref, token in re.findall(r"/a/(\w+)\?link=([\w.-]+)", text)]
    return [one for one in found if one is not None]


def test_a_message_has_a_link_of_its_person_and_notice_in_mail_slack_and_webhooks() -> None:
    message = of_notices([NOTICE], {}, LINKED)
    said = Pass(approval_ref(ID), "ana", "asked/1", NOW_MS + 60_000)
    mail = _as_mail(message, "mesh@example.org", "ana@example.org", NOW_MS)
    for text in (mail.get_content(), as_slack(message)["text"], message.body["data"]["url"]):
        assert passes_in(text) == [said]
    assert message.text.endswith("A link here answers once, in your name: do not pass it on.")
    reminder = of_notices([replace(NOTICE, what="reminder", number=2)], {}, LINKED)
    assert passes_in(reminder.text) == [said._replace(notice="reminder/2")]


def test_a_delegate_has_a_link_of_their_own() -> None:
    [found] = passes_in(of_notices([replace(NOTICE, person="ben", on_behalf="ana")], {}, LINKED).text)
    assert found.person == "ben"


def test_several_notices_and_a_digest_have_a_link_for_each_approval() -> None:
    other = "pay:8/4f2a/review"
    several = of_notices([NOTICE, replace(NOTICE, approval_id=other)], {}, LINKED)
    refs = [approval_ref(ID), approval_ref(other)]
    assert [one.ref for one in passes_in(several.text)] == refs
    digest = replace(NOTICE, what="digest", number=20260101, approval_id="")
    row = OpenRow(
        approval_id=ID, workflow_id="", route="", step="", question="?", role="", asked_at_ms=0, deadline_at_ms=None
    )
    message = of_digest(digest, Waits([row, replace(row, approval_id=other)], 2), LINKED)
    assert [(one.ref, one.notice) for one in passes_in(message.text)] == [(ref, "digest/20260101") for ref in refs]
    assert passes_in(message.body["data"]["approvals"][1]["url"])[0].ref == refs[1]


def test_what_is_closed_has_a_link_that_gives_no_right() -> None:
    message = of_notices([replace(NOTICE, what="closed")], {}, LINKED)
    assert message.body["data"]["url"].startswith("https://mesh.example.org/approval?id=")
    assert "link=" not in message.text
