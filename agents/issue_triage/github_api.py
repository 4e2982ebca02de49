"""GitHub's REST API, as far as posting a reply needs it: look, label, and comment once.

Owns requests, paging and the meaning of answers. Called by the publisher.

GitHub has no idempotency key, so each comment carries one in a marker that its page does not show.
A post goes like this:

    look for the marker -> found: done
                        -> not found: add labels, comment, look again;
                           of several comments with the marker the oldest stays

The second look settles a race with a process on another machine. (On one machine the publisher's
lock prevents such a race.)
"""

import ssl
from collections.abc import Iterator
from functools import cache
from types import TracebackType
from typing import Any, Self

import httpx

from mesh import NonRetryable

from .models import Published, PublishRequest

_TIMEOUT_S = 10.0  # for each request: connect, send, wait, read
_PAGE = 100  # comments, GitHub's most
_MAX_PAGES = 50
_OK, _CREATED, _NO_CONTENT = 200, 201, 204
_FORBIDDEN, _NOT_FOUND, _REQUEST_TIMEOUT, _TOO_MANY, _SERVER = 403, 404, 408, 429, 500


class GitHubUnavailable(Exception):
    """GitHub can't be reached, has a fault, or asks to wait. Trying again later may help."""


class GitHub:
    """A client for one post. Use it as a context manager."""

    def __init__(self, token: str, *, base_url: str = "https://api.github.com") -> None:
        self._http = httpx.Client(
            base_url=base_url.rstrip("/"),
            headers={
                "Authorization": f"Bearer {token}",
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
                "User-Agent": "agent-mesh-issue-triage",
            },
            timeout=_TIMEOUT_S,
            follow_redirects=True,  # a repository that was renamed
            verify=_tls() if base_url.startswith("https:") else False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def publish(self, request: PublishRequest, *, key: str) -> Published:
        """Post labels and reply, once for each `key`, which must be letters and digits.

        Raises `NonRetryable` or `GitHubUnavailable`.
        """
        issue = f"/repos/{request.repository}/issues/{request.number}"
        marker = f"<!-- agent-mesh {key} -->"
        posted = self._marked(issue, marker)
        already = bool(posted)
        if not already:
            if request.reply.labels:
                self._send("POST", f"{issue}/labels", wanted=_OK, json={"labels": request.reply.labels})
            body = f"{request.reply.body}\n\n{marker}"
            made = self._send("POST", f"{issue}/comments", wanted=_CREATED, json={"body": body})
            posted = self._marked(issue, marker) or [_object(made)]
        # the oldest stays: every process that looks must choose the same one
        posted.sort(key=lambda comment: int(comment.get("id", 0)))
        for repeated in posted[1:]:
            self._send("DELETE", f"/repos/{request.repository}/issues/comments/{repeated['id']}", wanted=_NO_CONTENT)
        return Published(where="github", url=str(posted[0].get("html_url", "")), already=already)

    def _marked(self, issue: str, marker: str) -> list[dict[str, Any]]:
        return [
            comment for comment in self._comments(issue) if str(comment.get("body") or "").rstrip().endswith(marker)
        ]

    def _comments(self, issue: str) -> Iterator[dict[str, Any]]:
        url: str | None = f"{issue}/comments?per_page={_PAGE}"
        for _ in range(_MAX_PAGES):
            if url is None:
                return
            answer = self._send("GET", url, wanted=_OK)
            page = _json(answer)
            yield from (comment for comment in page if isinstance(comment, dict)) if isinstance(page, list) else ()
            url = answer.links.get("next", {}).get("url")
        if url is not None:
            raise NonRetryable(
                f"{issue} has more than {_PAGE * _MAX_PAGES} comments, so it is unknown whether the reply is there",
                kind="too_many_comments",
            )

    def _send(self, method: str, url: str, *, wanted: int, json: Any = None) -> httpx.Response:
        try:
            answer = self._http.request(method, url, json=json)
        except httpx.InvalidURL as error:
            raise NonRetryable(f"GITHUB_API_URL does not make an address: {error}", kind="github_url") from error
        except httpx.HTTPError as error:
            raise GitHubUnavailable(f"{method} {url}: {type(error).__name__}: {error}") from error
        # another process may have deleted the same repeated comment
        if answer.status_code == wanted or (method == "DELETE" and answer.status_code == _NOT_FOUND):
            return answer
        raise _refusal(method, url, answer)


def _refusal(method: str, url: str, answer: httpx.Response) -> Exception:
    """What an unwanted answer means: `NonRetryable`, or `GitHubUnavailable` if waiting may help."""
    status = answer.status_code
    said = f"{method} {url}: GitHub answers {status}{_message(answer)}"
    if status >= _SERVER or status in {_REQUEST_TIMEOUT, _TOO_MANY} or _is_rate_limit(answer):
        wait = answer.headers.get("retry-after")
        return GitHubUnavailable(f"{said}; it asks to wait {wait} s" if wait else said)
    fix = {
        401: "the token in GITHUB_TOKEN is not valid: make a new one",
        403: "the token may not write to this repository's issues, or the issue is locked",
        404: "no such issue for this token: check the repository, the number and the token's repositories",
        410: "the issue was deleted, or issues are switched off",
        422: "GitHub does not take this reply: see its message",
    }.get(status, "this is not an answer that the publisher knows; check GITHUB_API_URL")
    return NonRetryable(f"{said} ({fix})", kind=f"github_{status}")


def _is_rate_limit(answer: httpx.Response) -> bool:
    """Whether the answer says that a limit of GitHub's is reached.

    That is a 429, or a 403 with one of these signs (docs.github.com, "Rate limits for the REST
    API").
    """
    return answer.status_code == _FORBIDDEN and (
        "retry-after" in answer.headers
        or answer.headers.get("x-ratelimit-remaining") == "0"
        or "rate limit" in _message(answer).casefold()
    )


def _message(answer: httpx.Response) -> str:
    try:
        said = answer.json()
    except ValueError:
        return ""
    message = said.get("message") if isinstance(said, dict) else None
    return f", “{str(message)[:300]}”" if message else ""


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise GitHubUnavailable(
            f"{answer.request.method} {answer.request.url}: the answer is not JSON; is GITHUB_API_URL right?"
        ) from error


def _object(answer: httpx.Response) -> dict[str, Any]:
    value = _json(answer)
    return value if isinstance(value, dict) else {}


@cache
def _tls() -> ssl.SSLContext:
    """The TLS context. It is made once, because making it takes longer than a request."""
    return httpx.create_ssl_context()
