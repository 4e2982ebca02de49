"""What a message says: to a program as JSON, to a person as text.

Owns the words. A message tells one notice, several of one address, or a digest. It holds no payload
unless a setting wants it. Pure.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from mesh.codec import exact_json
from mesh.codec.channels import ChannelKind
from mesh.codec.links import Links, approval_link
from mesh.codec.notices import Notice
from mesh.codec.times import rfc3339
from mesh.core.ids import parse_step_id, route_of
from mesh.inspection.inbox import OpenRow

LISTED: Final = 20
"""Approvals that one message names; of others it says how many there are."""
_PAYLOAD_SHOWN: Final = 4_000  # characters of it that a text shows
_LINE: Final = 200
_DO: Final = {
    "asked": "Your approval is wanted",
    "stage": "Your approval is wanted, because others have not answered",
    "edited": "The payload was edited, and your vote no longer counts",
    "extended": "The deadline was moved",
    "reminder": "This still waits for your approval",
    "question": "You are asked a question, and need not approve anything to answer it",
    "answered": "Your question was answered",
}


class Message(NamedTuple):
    """`body`: for programs. `title`, `text`: for people.

    `id`: by which a receiver knows a repeat.
    """

    id: str
    body: dict[str, Any]
    title: str
    text: str


class Shown(NamedTuple):
    """What of an open approval a message may say besides its notice.

    `payload` UNSET: it is left out.
    """

    choices: Sequence[str] = ("approve", "reject")
    payload: Any = msgspec.UNSET


class Waits(NamedTuple):
    """What waits for a person: the first of it, and how much it is in all."""

    rows: Sequence[OpenRow]
    total: int


class Console(NamedTuple):
    """Where people answer in a browser. `url` empty: nowhere.

    `links`: makes links that need no sign-in, as of `now_ms`; None: all lead to the sign-in.
    """

    url: str = ""
    links: Links | None = None
    now_ms: int = 0

    def link(self, approval_id: str, person: str, notice: str) -> str:
        """The link by which this person answers; empty: there is none."""
        if self.links is None or not self.url:
            return approval_link(self.url, approval_id) if self.url else ""
        return self.links.make(approval_id, person=person, notice=notice, now_ms=self.now_ms)


def of_notices(notices: Sequence[Notice], shown: Mapping[str, Shown], console: Console) -> Message:
    """One message that tells these notices of one person. `shown`: by approval."""
    if len(notices) == 1:
        one = notices[0]
        title, text = _title(one), _text(one, shown.get(one.approval_id, Shown()), console)
    else:
        title = f"{len(notices):,} approvals: {_plain(notices[0].question, 60)}, and others"
        lines = [
            f"{_title(one)}{_until(one.deadline_at)}\n    {_where(one.approval_id, _link(one, console))}"
            for one in notices[:LISTED]
        ]
        left = len(notices) - len(lines)
        rest = [f"... and {left:,} more: mesh approvals --mine"] if left else []
        text = "\n".join([*lines, *rest, *_warned(console)])
    first = notices[0]
    body = {"type": f"mesh.approval.{first.what}", "timestamp": first.at, "data": _data(first, shown, console)}
    return Message(first.id, body, title, text)


def of_digest(notice: Notice, waits: Waits, console: Console) -> Message:
    """The one message of a day."""
    links = {row.approval_id: console.link(row.approval_id, notice.person, _name(notice)) for row in waits.rows}
    title = f"{waits.total:,} {'approval waits' if waits.total == 1 else 'approvals wait'} for you"
    lines = [
        f"{_plain(row.question)}{_until_ms(row.deadline_at_ms)}\n    {_where(row.approval_id, links[row.approval_id])}"
        for row in waits.rows
    ]
    left = waits.total - len(waits.rows)
    rest = [f"... and {left:,} more: mesh approvals --mine"] if left else []
    approvals = [
        {
            "approval_id": row.approval_id,
            "question": row.question,
            "deadline_at": None if row.deadline_at_ms is None else rfc3339(row.deadline_at_ms),
            **_as_url(links[row.approval_id]),
        }
        for row in waits.rows
    ]
    data = {"person": notice.person, "total": waits.total, "approvals": approvals}
    body = {"type": "mesh.approval.digest", "timestamp": notice.at, "data": data}
    return Message(
        notice.id,
        body,
        title,
        "\n".join([f"{title}, the nearest deadline first:", "", *lines, *rest, *_warned(console)]),
    )


def _title(one: Notice) -> str:
    question = _plain(one.question)
    match one.what:
        case "closed":
            return f"Closed{f' as {one.verdict}' if one.verdict else ''}: {question}"
        case "reminder":
            return f"Reminder: {question}"
        case "edited":
            return f"Edited: {question}"
        case "extended":
            return f"Deadline moved: {question}"
        case "question":
            return f"{_plain(one.by, 60)} asks you: {_plain(one.text)}"
        case "answered":
            return f"{_plain(one.by, 60)} has answered: {_plain(one.text)}"
        case _:
            return question


def _text(one: Notice, shown: Shown, console: Console) -> str:
    if one.what == "closed":
        by = f" by {_plain(one.by)}" if one.by else ""
        lines = [_plain(one.question, 500), "", f"It is closed{f': {one.verdict}{by}' if one.verdict else ''}."]
        return "\n".join([*lines, "", one.approval_id])
    lines = [f"{_DO.get(one.what, '')}.", "", _plain(one.question, 500)]
    if one.text:
        lines += ["", f"{_plain(one.by)}: {_plain(one.text, 500)}"]
    lines += ["", *_facts(one)]
    if shown.payload is not msgspec.UNSET:
        lines += ["", _payload(shown.payload)]
    return "\n".join([*lines, "", *_how(one, shown.choices, console), *_warned(console)])


def _facts(one: Notice) -> list[str]:
    parts = parse_step_id(one.approval_id)
    asks = _plain(one.requester) or (f"route {route_of(parts.workflow_id)}" if parts else "")
    facts = [f"asked by   {asks}"] if asks else []
    if one.on_behalf:
        facts.append(f"for        {_plain(one.on_behalf)}, who is away")
    facts.append(f"until      {one.deadline_at or 'no deadline'}")
    facts.append(f"approval   {_plain(one.approval_id, 1_000)}")
    return facts


def _how(one: Notice, choices: Sequence[str], console: Console) -> list[str]:
    """How to answer: the link, where there is a console, and the commands."""
    ways = [*filter(None, [_link(one, console)]), *_commands(one, choices)]
    return [f"{'To answer:' if not number else '':<10} {way}" for number, way in enumerate(ways)]


def _warned(console: Console) -> list[str]:
    return ["", "A link here answers once, in your name: do not pass it on."] if console.links is not None else []


def _commands(one: Notice, choices: Sequence[str]) -> list[str]:
    name = shlex.quote(one.approval_id)
    if one.what == "question":
        return [f"mesh inform {name} TEXT --question {one.number}"]
    if one.on_behalf:
        name = f"{name} --for {shlex.quote(one.on_behalf)}"
    if tuple(choices) != ("approve", "reject"):
        return [f"mesh choose {name} {'|'.join(choices)}"]
    return [f"mesh approve {name}", f"mesh reject {name} --reason ..."]


def _where(approval_id: str, link: str) -> str:
    return link or f"mesh approvals show {shlex.quote(approval_id)}"


def _link(one: Notice, console: Console) -> str:
    """The notice's own link. What is closed takes no answer, so its link leads to the sign-in."""
    known = console._replace(links=None) if one.what == "closed" else console
    return known.link(one.approval_id, one.person, _name(one))


def _name(one: Notice) -> str:
    """What tells the notice from the person's others about the same approval."""
    return f"{one.what}/{one.number}"


def _as_url(link: str) -> dict[str, str]:
    return {"url": link} if link else {}


def _data(one: Notice, shown: Mapping[str, Shown], console: Console) -> dict[str, Any]:
    payload = shown.get(one.approval_id, Shown()).payload
    data: dict[str, Any] = {
        "notice_id": one.id,
        "what": one.what,
        "person": one.person,
        "approval_id": one.approval_id,
        "question": one.question,
        "requester": one.requester or None,
        "asked_at": one.asked_at,
        "deadline_at": one.deadline_at,
        "edition": one.edition,
        **({"for": one.on_behalf} if one.on_behalf else {}),
        **_as_url(_link(one, console)),
    }
    if one.what == "closed":
        data |= {"verdict": one.verdict or None, "by": one.by or None}
    else:
        data["command"] = _commands(one, shown.get(one.approval_id, Shown()).choices)[0]
    if one.what in ("question", "answered"):
        data |= {"number": one.number, "text": one.text, "by": one.by}
    return data if payload is msgspec.UNSET else {**data, "payload": payload}


def _payload(payload: Any) -> str:
    text = exact_json.encode(payload, indent=True).decode()
    return text if len(text) <= _PAYLOAD_SHOWN else f"{text[:_PAYLOAD_SHOWN]}\n... (mesh approvals show has all of it)"


def _until(deadline_at: str | None) -> str:
    return f" (until {deadline_at})" if deadline_at else ""


def _until_ms(deadline_at_ms: int | None) -> str:
    return "" if deadline_at_ms is None else _until(rfc3339(deadline_at_ms))


def _plain(text: str, most: int = _LINE) -> str:
    """One line without control characters: a question must not be able to forge a header."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def slack_text(text: str) -> str:
    """As Slack wants text that holds no links or names of its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def as_slack(message: Message) -> dict[str, str]:
    return {"text": slack_text(f"{message.title}\n{message.text}")}


def is_for_people(kind: ChannelKind) -> bool:
    """Whether one message may tell several notices: a program wants each by itself."""
    return kind != "webhook"
