"""Where people want to be told: `channel/<person's id>` on `mesh.approvals.people`.

Owns these records. Unlike versions of the people they may be replaced and deleted, because an
address decides nothing. They hold no secrets: what signs a webhook and what logs in to a mail
server are settings of the notifier. `mesh people channels` writes them, the notifier reads them.
"""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec

from mesh.codec import exact_json
from mesh.codec.cloudevents import binary_headers
from mesh.codec.places import place
from mesh.codec.times import rfc3339
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord, OperatorError
from mesh.ports import OutRecord, Record

ChannelKind = Literal["webhook", "slack", "email"]
CHANNEL_TYPE: Final = "mesh.channel"
_SOURCE: Final = "/mesh/people"
_CHANNEL: Final = b"channel/"
_DIGEST: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)@(\S+)", re.ASCII)
_EMAIL: Final = re.compile(r"[^\s@<>,;:\"\\]+@[^\s@<>,;:\"\\]+")
_LONGEST_ADDRESS: Final = 2_000
_DIGEST_HINT: Final = "write a time and a time zone, such as 08:00@Europe/Berlin"


class Channel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The addresses of one person. Empty: no such address.

    `digest`: when one message a day takes the place of reminders, such as `08:00@Europe/Berlin`.
    `hours`: the calendar outside whose hours only first notices go out.
    """

    webhook: str = ""
    slack: str = ""
    email: str = ""
    digest: str = ""
    hours: str = ""

    def addresses(self) -> list[tuple[ChannelKind, str]]:
        """Each kind of address that the person has, with the address."""
        known: list[tuple[ChannelKind, str]] = [
            ("webhook", self.webhook),
            ("slack", self.slack),
            ("email", self.email),
        ]
        return [(kind, address) for kind, address in known if address]


class DailyTime(NamedTuple):
    """A time of each day, in a time zone."""

    minutes: int
    zone: ZoneInfo

    def last(self, now_ms: int) -> tuple[date, int]:
        """The last day on which it has come, and when that was."""
        today = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(self.zone).date()
        at_ms = self._on(today)
        if at_ms <= now_ms:
            return today, at_ms
        yesterday = today - timedelta(days=1)
        return yesterday, self._on(yesterday)

    def next(self, now_ms: int) -> int:
        """The first time after `now_ms`."""
        day, at_ms = self.last(now_ms)
        while at_ms <= now_ms:
            day += timedelta(days=1)
            at_ms = self._on(day)
        return at_ms

    def _on(self, day: date) -> int:
        local = datetime.combine(day, time(*divmod(self.minutes, 60)), tzinfo=self.zone)
        return int(local.timestamp() * 1000)


def daily_time(text: str) -> DailyTime:
    """The time of a digest. Raises `OperatorError`."""
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise OperatorError(f"the digest {text!r} is no time of a day; {_DIGEST_HINT}")
    hours, minutes, zone = match.groups()
    try:
        return DailyTime(int(hours) * 60 + int(minutes), ZoneInfo(zone))
    except (OSError, ValueError, KeyError) as error:
        raise OperatorError(f"the digest {text!r} has a time zone that nobody knows; {_DIGEST_HINT}") from error


def check_channel(channel: Channel) -> None:
    """Raises `OperatorError` for what is no address, or no time."""
    for kind, address in channel.addresses():
        if len(address) > _LONGEST_ADDRESS:
            raise OperatorError(f"the {kind} address is longer than {_LONGEST_ADDRESS} characters")
        if kind == "email":
            if not _EMAIL.fullmatch(address):
                raise OperatorError(f"{address!r} is no e-mail address; write it as ana@example.org")
        elif not _is_url(address):
            raise OperatorError(f"{address!r} is no URL for a {kind}; write it as https://HOST/PATH")
    if channel.digest:
        daily_time(channel.digest)


def _is_url(text: str) -> bool:
    try:
        found = urlsplit(text)
        _ = found.port
    except ValueError:
        return False
    is_plain = text.isascii() and text.isprintable() and " " not in text
    return is_plain and found.scheme in {"http", "https"} and bool(found.hostname) and "@" not in found.netloc


def encode_channel(person: str, channel: Channel | None, *, topics: Topics, record_id: str, at_ms: int) -> OutRecord:
    """The addresses of a person; None takes them away."""
    headers = binary_headers(id=record_id, source=_SOURCE, type=CHANNEL_TYPE, time=rfc3339(at_ms))
    value = None if channel is None else msgspec.json.encode(channel)
    return OutRecord(topic=topics.people, key=_CHANNEL + person.encode(), value=value, headers=headers, partition=0)


def channel_of(record: Record) -> str:
    """Whose addresses a record has, by its key; empty for any other record."""
    key = record.key or b""
    return key[len(_CHANNEL) :].decode("utf-8", "replace") if key.startswith(_CHANNEL) else ""


def decode_channel(record: Record) -> Channel | None:
    """The addresses in a record; None for a tombstone. Raises `MalformedRecord`."""
    if record.value is None:
        return None
    try:
        found: Channel = msgspec.convert(exact_json.decode(record.value), Channel)
        check_channel(found)
    except (*exact_json.DECODE_ERRORS, OperatorError) as error:
        raise MalformedRecord(
            f"the addresses {place(record)} do not hold: {error} (topics/schemas/channel.json has the form)"
        ) from error
    return found
