"""The types that the agents of the issue desk pass to each other by the route.

Owns shapes only. An `Issue` takes GitHub's published issue object and leaves out what nobody reads.
"""

import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

# GitHub's `full_name`
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*/(?!\.\.?\Z)[A-Za-z0-9_.-]+\Z")


class User(BaseModel):
    login: str = ""


class Issue(BaseModel):
    """GitHub's issue object.

    `body` is null if the author wrote none, and `user` if the account is gone.
    """

    number: int = Field(ge=1)
    title: str
    body: str | None = None
    html_url: str = ""
    repository_url: str = ""
    user: User | None = None
    author_association: str = "NONE"
    labels: list[str] = []

    @field_validator("labels", mode="before")
    @classmethod
    def _names(cls, labels: Any) -> Any:
        """Take the names of labels.

        GitHub gives a label as an object with a name, and in some payloads as the name alone.
        """
        if not isinstance(labels, list):
            return labels or []
        names = (label.get("name") if isinstance(label, dict) else label for label in labels)
        return [name for name in names if isinstance(name, str)]

    @property
    def repository(self) -> str:
        """`owner/name` in small letters, since GitHub ignores case. Empty if it is not known.

        Of a server other than github.com, `host/owner/name`: two servers may have repositories of
        one name.
        """
        for url, before in ((self.repository_url, "/repos/"), (self.html_url.partition("/issues/")[0], "//")):
            tail = "/".join(url.rstrip("/").rsplit("/", 2)[-2:])
            if before in url and _REPOSITORY.match(tail):
                host = (urlsplit(url).netloc.lower()).removeprefix("www.").removeprefix("api.")
                return tail.lower() if host in {"", "github.com"} else f"{host}/{tail.lower()}"
        return ""


class Triage(BaseModel):
    """What the classifier found. `reasons` quote the evidence, strongest first."""

    labels: list[str]
    severity: Literal["low", "high"]
    confidence: float = Field(ge=0, le=1)
    kind: Literal["bug", "feature", "question", "documentation", "unclear"] = "unclear"
    reasons: list[str] = []


class Match(BaseModel):
    number: int
    title: str
    score: float = Field(ge=0, le=1)
    url: str


class Duplicates(BaseModel):
    """Issues of the same repository that read alike, best first."""

    matches: list[Match] = []


class DraftRequest(BaseModel):
    issue: Issue
    triage: Triage
    duplicates: Duplicates = Duplicates()


class Reply(BaseModel):
    """What is to be posted, and what the maintainer reads, edits and approves.

    `body` is GitHub's Markdown.
    """

    model_config = ConfigDict(extra="forbid")

    # GitHub takes 65,536 characters; the publisher adds its marker
    body: str = Field(min_length=1, max_length=60_000)
    labels: list[str] = []


class PublishRequest(BaseModel):
    """Where to post and what.

    The event says where. The text is the draft, or the maintainer's edit of it. `source` is the
    repository's address at the API of its server; without it, nobody asks which server is meant.
    """

    repository: str
    number: int = Field(ge=1)
    reply: Reply
    source: str = ""

    @field_validator("repository")
    @classmethod
    def _is_owner_and_name(cls, repository: str) -> str:
        """Check the repository: it becomes part of a URL, and must not lead elsewhere."""
        if _REPOSITORY.match(repository) is None:
            raise ValueError(f"{repository!r} is not owner/name; pass event.data.repository.full_name")
        return repository


class Published(BaseModel):
    """What became of a reply. `already`: an earlier delivery of the same task had posted it."""

    where: Literal["github", "outbox"]
    url: str
    already: bool = False
