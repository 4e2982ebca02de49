"""GitHub's webhook payloads as CloudEvents.

The mapping is the CloudEvents project's (`adapters/github.md`). Owns that table and nothing else:
it reads no file and knows no HTTP header, and the whole body becomes `data`. `mesh publish
--github` and the gateway call it. Another kind of event is another line of `_KINDS`; a kind that is
not there is mapped all the same, without a subject.

Departures from that table:

- It has `com.github.issue.` for GitHub's event `issues`, the only kind that does not have the name
  that GitHub gives in `X-GitHub-Event`. Here the type is `com.github.issues.` + action.
- Where it says "current time", an event has no time: a delivery that GitHub repeats must be the
  same event.
- `membership` of a team that is deleted has the organization as its source.
- `security_advisory` has the source `https://github.com`, and `status` the state in its type, as
  its remark proposes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import msgspec

from mesh.codec import exact_json
from mesh.errors import MalformedRecord

ISSUES: Final = "issues"
_WORD: Final = re.compile(r"[a-z][a-z0-9_]*\Z")
_REPOSITORY: Final = ("repository.url",)
_OWNER: Final = ("repository.owner.url",)
_ANY: Final = ("repository.url", "organization.url", "enterprise.url", "installation.account.url", "sender.url")


class _Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Where the attributes of one kind of event are in its payload: dotted paths.

    Of several paths the first counts that leads to a value. `types` are the parts of the type
    behind the kind's name.
    """

    source: Sequence[str] = _REPOSITORY
    source_tail: str = ""
    subject: str = ""
    may_lack_subject: bool = False
    time: Sequence[str] = ()
    types: Sequence[str] = ("action",)
    not_with: Sequence[str] = ()  # members that show the payload to be of another kind


_KINDS: Final[Mapping[str, _Kind]] = {
    "check_run": _Kind(subject="check_run.id", time=("check_run.completed_at", "check_run.started_at")),
    "check_suite": _Kind(subject="check_suite.id", time=("check_suite.updated_at",)),
    "commit_comment": _Kind(
        source=("comment.url",), source_tail="comment.commit_id", subject="comment.id", time=("comment.updated_at",)
    ),
    "create": _Kind(subject="ref", types=("ref_type",)),
    "delete": _Kind(subject="ref", types=("ref_type",)),
    "deploy_key": _Kind(subject="key.id", time=("key.deleted_at", "key.created_at")),
    "deployment": _Kind(subject="deployment.id", time=("deployment.updated_at",), types=()),
    "deployment_status": _Kind(
        source=("deployment.url",),
        subject="deployment_status.url",
        time=("deployment_status.updated_at",),
        types=("deployment_status.state",),
    ),
    "fork": _Kind(subject="forkee.url", time=("forkee.created_at",), types=()),
    "github_app_authorization": _Kind(source=("sender.url",), types=()),
    "gollum": _Kind(types=()),
    "installation": _Kind(source=("installation.account.url",), subject="installation.id"),
    "installation_repositories": _Kind(source=("installation.account.url",), subject="installation.id"),
    "issue_comment": _Kind(source=("issue.url",), subject="comment.id", time=("comment.updated_at",)),
    ISSUES: _Kind(subject="issue.number", time=("issue.updated_at",), not_with=("comment",)),
    "label": _Kind(subject="label.name"),
    "member": _Kind(subject="member.login"),
    # a team that is deleted has a name and no address
    "membership": _Kind(source=("team.url", "organization.url"), subject="member.login", types=("scope", "action")),
    "meta": _Kind(subject="hook_id", time=("hook.updated_at",)),
    "milestone": _Kind(subject="milestone.number", time=("milestone.updated_at",)),
    "org_block": _Kind(source=("organization.url",), subject="blocked_user.login"),
    "organization": _Kind(source=("organization.url",), subject="membership.user.login", may_lack_subject=True),
    "page_build": _Kind(subject="build.url", time=("build.updated_at",), types=()),
    "public": _Kind(source=_OWNER, subject="repository.name", time=("repository.updated_at",), types=()),
    "pull_request": _Kind(subject="number", time=("pull_request.updated_at",)),
    "pull_request_review": _Kind(source=("pull_request.url",), subject="review.id", time=("review.submitted_at",)),
    "pull_request_review_comment": _Kind(
        source=("pull_request.url",), subject="comment.id", time=("pull_request.updated_at",)
    ),
    "push": _Kind(subject="ref", types=()),
    "registry_package": _Kind(subject="registry_package.html_url", time=("registry_package.updated_at",)),
    "release": _Kind(subject="release.id", time=("release.published_at", "release.created_at")),
    "repository": _Kind(source=_OWNER, subject="repository.name", time=("repository.updated_at",)),
    "repository_import": _Kind(source=_OWNER, subject="repository.name", time=("repository.updated_at",), types=()),
    "repository_vulnerability_alert": _Kind(subject="alert.id"),
    # its action is what the sender of the dispatch says, and need not be a word
    "repository_dispatch": _Kind(subject="action", types=()),
    "security_advisory": _Kind(
        source=("=https://github.com",), subject="security_advisory.ghsa_id", time=("security_advisory.updated_at",)
    ),
    "star": _Kind(time=("starred_at",)),
    "status": _Kind(subject="sha", time=("updated_at",), types=("state",)),
    "team": _Kind(source=_ANY, subject="team.id", time=("updated_at",)),
    "team_add": _Kind(subject="team.id", types=()),
    "watch": _Kind(),
}
_OTHER: Final = _Kind(source=_ANY)


def read_payload(raw: bytes) -> dict[str, Any]:
    """The payload that `raw` holds. Raises `MalformedRecord` if it is not one JSON object."""
    try:
        payload = exact_json.decode(raw)
    except exact_json.JsonRefused as error:
        raise MalformedRecord(
            f"the GitHub payload can't be taken: {error}; save the webhook's request body as it came"
        ) from error
    if not isinstance(payload, dict):
        raise MalformedRecord(f"the GitHub payload is {_name(payload)}, not an object; save the webhook's request body")
    return payload


def webhook_event(payload: dict[str, Any], *, kind: str = ISSUES, delivery: str | None, raw: bytes) -> dict[str, Any]:
    """The CloudEvent of one payload of a GitHub webhook, in CloudEvents' JSON format.

    `kind` is the value of `X-GitHub-Event`, and `delivery` that of `X-GitHub-Delivery`; without the
    latter the id is the SHA-256 of `raw`, the payload's bytes, so that the same file is the same
    event. `time` is left out where the payload has none. Raises `MalformedRecord`, which names the
    member that is missing or wrong.
    """
    if _WORD.match(kind) is None:
        raise MalformedRecord(
            f"{_name(kind)} is no kind of GitHub event; say what X-GitHub-Event says, such as `{ISSUES}`"
        )
    return _Mapping(kind, payload, delivery or f"sha256:{sha256(raw).hexdigest()}").event()


class _Mapping:
    """One payload on its way to an event."""

    def __init__(self, kind: str, payload: dict[str, Any], event_id: str) -> None:
        self._kind = kind
        self._payload = payload
        self._id = event_id
        self._where = _KINDS.get(kind, _OTHER)

    def event(self) -> dict[str, Any]:
        for other in self._where.not_with:
            if other in self._payload:
                raise MalformedRecord(
                    f"GitHub {self._kind} payload {self._id}: it has `{other}`, so it is another kind of event; "
                    "say which X-GitHub-Event it came with"
                )
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": self._id,
            "source": self._source(),
            "type": ".".join(["com.github", self._kind, *self._types()]),
            "subject": self._subject(),
            "time": self._time(),
            "datacontenttype": "application/json",
            "data": self._payload,
        }
        return {name: value for name, value in event.items() if value is not None}

    def _source(self) -> str:
        first = self._where.source[0]
        if first.startswith("="):
            return first[1:]
        path = next((path for path in self._where.source if _find(self._payload, path) is not None), first)
        tail = self._where.source_tail
        return self._text(path) + (f"/{self._text(tail)}" if tail else "")

    def _types(self) -> Iterator[str]:
        for path in self._where.types:
            if self._where is _OTHER and _find(self._payload, path) is None:
                continue
            word = self._text(path)
            if self._where is _OTHER and _WORD.match(word) is None:
                continue
            if _WORD.match(word) is None:
                raise self._wrong(path, "a word of small letters, such as `opened`", word)
            yield word

    def _subject(self) -> str | None:
        path = self._where.subject
        if not path:
            return None
        value = _find(self._payload, path)
        if value is None and self._where.may_lack_subject:
            return None
        if path.endswith("number"):
            return self._number(path, value)
        return str(value) if _is_number(value) else self._text(path)

    def _number(self, path: str, value: Any) -> str:
        if not _is_number(value) or value < 1:
            raise self._wrong(path, "a number of 1 or more", value)
        return str(value)

    def _text(self, path: str) -> str:
        value = _find(self._payload, path)
        if not isinstance(value, str) or not value:
            raise self._wrong(path, "a string that is not empty", value)
        return value

    def _time(self) -> str | None:
        """The time in RFC 3339, which CloudEvents want. GitHub sends that, or seconds."""
        path = next((path for path in self._where.time if _find(self._payload, path) is not None), None)
        if path is None:
            return None
        value = _find(self._payload, path)
        try:
            if _is_number(value):
                return datetime.fromtimestamp(value, UTC).isoformat()
            aware = isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
        except (ValueError, OverflowError, OSError):
            aware = False
        if not aware:
            raise self._wrong(path, "a time such as 2026-03-01T09:30:00Z", value)
        return str(value)

    def _wrong(self, path: str, wanted: str, value: Any) -> MalformedRecord:
        found = "is missing" if value is None else f"is {_name(value)}"
        return MalformedRecord(f"GitHub {self._kind} payload {self._id}: `{path}` {found}; it must be {wanted}")


def _find(payload: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or None."""
    value: Any = payload
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _name(value: Any) -> str:
    """What a value is, for a message, without its content."""
    match value:
        case dict():
            return "an object"
        case list():
            return "an array"
        case None:
            return "null"
        case _:
            text = repr(value)
            return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - a message's line
