"""What the demo sends, and what must become of it: the manifest with the payloads that it names.

Owns the form of `agents/issue_triage/samples/manifest.yaml` as values. It must not know how a mesh
is run.
"""

from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from mesh.codec.github import read_payload, webhook_event
from mesh.codec.yaml_lines import read_yaml
from mesh.errors import OperatorError, SettingsInvalid
from mesh.resources import EXAMPLES, EXAMPLES_PACKAGE

DESK: Final = f"{EXAMPLES_PACKAGE}.issue_triage"
AGENT_MODULES: Final = tuple(f"{DESK}.{name}" for name in ("classifier", "duplicate_finder", "drafter", "publisher"))

Ending = Literal["completed", "rejected", "repeated", "unmatched", "dead_letter"]
STARTS: Final[tuple[Ending, ...]] = ("completed", "rejected")


class Delivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the manifest, which says what its fields mean.

    `raw` and `event` are the payload, as bytes and as the CloudEvent made of it.
    """

    name: str
    file: str
    end: Ending
    send: Literal["github", "raw"] = "github"
    content_type: str = "application/json"
    delivery: str = ""
    after: str = ""
    workflow: str = ""
    review: Literal["skipped", "approve", "reject", "edit", ""] = ""
    reason: str = ""
    edit: dict[str, Any] = {}
    raw: bytes = b""
    event: dict[str, Any] | None = None

    @property
    def starts(self) -> bool:
        """Whether a workflow begins with this delivery."""
        return self.end in STARTS

    @property
    def issue(self) -> dict[str, Any]:
        found: dict[str, Any] = self.event["data"]["issue"] if self.event else {}
        return found

    @property
    def title(self) -> str:
        return str(self.issue.get("title", "(can't be read)"))

    @property
    def repository(self) -> str:
        return str(self.event["data"]["repository"]["full_name"]) if self.event else ""

    @property
    def short(self) -> str:
        """`ferry#412`, or the delivery's name if it is not about an issue."""
        return f"{self.repository.rpartition('/')[2]}#{self.issue['number']}" if self.event else self.name


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """All deliveries of the demo.

    `fault`: `agent:issue`, whose first attempt fails. `folder`: that of the issue desk.
    """

    approver: str
    fault: str
    deliveries: tuple[Delivery, ...]
    folder: Path = Path()

    @property
    def workflows(self) -> list[Delivery]:
        """The deliveries that start a workflow, in the manifest's order."""
        return [one for one in self.deliveries if one.starts]

    @property
    def faulty(self) -> tuple[str, Delivery]:
        """The agent that fails once, and the delivery at which it does."""
        agent, _, number = self.fault.partition(":")
        return agent, next(one for one in self.workflows if str(one.issue["number"]) == number)

    def of_workflow(self, workflow_id: str) -> Delivery | None:
        return next((one for one in self.workflows if one.workflow == workflow_id), None)

    def sample(self, delivery: Delivery) -> Path:
        return self.folder / "samples" / delivery.file


def short_id(workflow_id: str) -> str:
    """`issue-triage:lanternworks/ferry#412` as `ferry#412`."""
    return workflow_id.rpartition("/")[2]


def load_script() -> Script:
    """Read the manifest and its payloads.

    Raises `OperatorError` if there is no issue desk, and `SettingsInvalid` if the manifest is
    wrong.
    """
    folder = EXAMPLES / "issue_triage"
    path = folder / "samples" / "manifest.yaml"
    try:
        documents, faults = read_yaml(path)
    except OSError as error:
        raise OperatorError(f"{path} can't be read: {error.strerror}; the demo needs the project's samples") from error
    faults = [*faults, *(fault for document in documents for fault in document.faults)]
    if faults or not documents:
        raise SettingsInvalid(
            "\n".join(f"{path}:{fault.line}: {fault.message}" for fault in faults) or f"{path}: empty"
        )
    try:
        script = msgspec.convert(documents[0].value, Script)
    except msgspec.ValidationError as error:
        raise SettingsInvalid(f"{path}: {error}") from error
    deliveries = tuple(_with_payload(one, folder / "samples" / one.file) for one in script.deliveries)
    return msgspec.structs.replace(script, deliveries=deliveries, folder=folder)


def _with_payload(delivery: Delivery, path: Path) -> Delivery:
    raw = path.read_bytes()
    event = webhook_event(read_payload(raw), delivery=delivery.delivery, raw=raw) if delivery.send == "github" else None
    return msgspec.structs.replace(delivery, raw=raw, event=event)
