"""Approval requests, answers and receipts: the bytes between the mesh and the people it asks.

Owns the three records of `mesh.approvals.*`; their JSON Schemas are in `topics/schemas/`. It must
not judge an answer: the owner decides who may give it and whether it came in time. Routers call
`encode_request`, `encode_receipt` and `decode_response`; approvers' clients call the other three.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec

from mesh.codec import exact_json
from mesh.codec.bodies import read_body
from mesh.codec.cloudevents import binary_headers
from mesh.codec.jws_bodies import SIGNED_FIELDS, encode_signed, opened
from mesh.codec.places import place, receipt_id_at
from mesh.codec.times import is_rfc3339, parse_rfc3339, rfc3339
from mesh.codec.unreadable import PayloadIsNull
from mesh.core import ids
from mesh.core.approvals import LONGEST_NAME, Terms
from mesh.core.delegations import MOST_NAMED
from mesh.core.effects import AskApproval
from mesh.core.ids import parse_step_id
from mesh.core.inputs import PERSONAL, AnswerGiven, AnswerGiven2, AnswerKind, first_version
from mesh.core.json_values import digest as payload_digest
from mesh.core.questions import MOST_QUESTIONS
from mesh.core.receipts import Place, SendReceipt
from mesh.core.route import OnExpiry
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record

REQUEST_TYPE: Final = "mesh.approval.requested"
RESPONSE_TYPE: Final = "mesh.approval.answered"
RECEIPT_TYPE: Final = "mesh.approval.receipt"

_DECISIONS: Final[dict[str, AnswerKind]] = {
    **{kind: kind for kind in get_args(AnswerKind)},
    "approved": "approve",
    "rejected": "reject",
}
_EXAMPLE: Final = '{"approval_id": "<as asked>", "decision": "approve" or "reject", "by": "<who you are>"}, and if you like "digest", "reason", "payload"; "edited": true with a payload of null'


_MORE: Final = tuple(kind for kind in get_args(AnswerKind) if kind not in {"approve", "reject", *PERSONAL})
_VOTES: Final = ("approve", "reject", "choose")
_PERIOD: Final = ("start", "until")
_LISTS: Final = ("roles", "routes")
_OPTIONAL: Final = (*SIGNED_FIELDS, *_PERIOD, "delegation")
# of what a person says of themself, and whether it must be there
_FIELDS_OF: Final[dict[str, dict[str, bool]]] = {
    "delegate": {"to": True, "until": True, "start": False, "roles": False, "routes": False},
    "end": {"delegation": True},
    "absent": {"until": True, "start": False},
}
MOST_REASON: Final = 2_000  # characters, of what is kept on the people's topic
_OF_PERSONS: Final = (*_PERIOD, *_LISTS, "delegation")


class ApprovalRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record of `mesh.approvals.requests`: what a person is asked.

    The record's timestamp says when.
    """

    approval_id: str
    question: str
    payload: Any
    payload_schema: dict[str, Any] | None
    # of the payload's canonical JSON; an answer that repeats it is bound to what was shown
    digest: str
    role: str
    deadline_at: str | None  # RFC 3339; None: it stays open
    on_expiry: OnExpiry
    version: int = 1
    # of version 2: who may answer, how many must, and what; `role` has that in words
    terms: Terms | None = None

    @property
    def workflow_id(self) -> str:
        parts = parse_step_id(self.approval_id)
        return parts.workflow_id if parts else ""

    @property
    def deadline_at_ms(self) -> int | None:
        return None if self.deadline_at is None else parse_rfc3339(self.deadline_at)


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A record of `mesh.approvals.receipts`.

    It says what became of an answer, or of an approval that ended without one. `source`: the
    answer's record, by which the receipt's own id is made.
    """

    approval_id: str  # empty where the answer names none that can be read
    answer_id: str  # empty where no answer caused it
    status: Literal["accepted", "refused", "closed"]
    code: str
    verdict: str  # approved, rejected; empty while it is open
    closed: bool
    message: str = ""
    by: str = ""
    at: str = ""  # RFC 3339
    source: Place | None = None
    # of version 2: the choice; how many of how many seats the leading choice fills; the edition
    choice: str | msgspec.UnsetType = msgspec.UNSET
    have: int | msgspec.UnsetType = msgspec.UNSET
    need: int | msgspec.UnsetType = msgspec.UNSET
    edition: int | msgspec.UnsetType = msgspec.UNSET
    # the person for whom a delegate has answered
    on_behalf: str | msgspec.UnsetType = msgspec.field(name="for", default=msgspec.UNSET)


_encode = msgspec.json.Encoder().encode
_request_decoder: msgspec.json.Decoder[ApprovalRequest] = msgspec.json.Decoder(ApprovalRequest)
_receipt_decoder: msgspec.json.Decoder[Receipt] = msgspec.json.Decoder(Receipt)


def encode_request(effect: AskApproval, *, topics: Topics) -> OutRecord:
    """An approval's request. Key: the workflow id. The CloudEvent's id is the approval's."""
    deadline = effect.deadline_at_ms
    value = ApprovalRequest(
        approval_id=effect.approval_id,
        question=effect.question,
        payload=effect.payload,
        payload_schema=effect.payload_schema,
        digest=effect.digest,
        role=effect.role,
        deadline_at=None if deadline is None else rfc3339(deadline),
        on_expiry=effect.on_expiry,
        version=1 if effect.terms is None else 2,
        terms=effect.terms,
    )
    headers = binary_headers(
        id=effect.approval_id,
        source="/mesh/router",
        type=REQUEST_TYPE,
        workflow_id=effect.workflow_id,
        traceparent=effect.traceparent,
        time=rfc3339(effect.at_ms),
    )
    return OutRecord(topic=topics.requests, key=effect.workflow_id.encode(), value=_encode(value), headers=headers)


def decode_request(record: Record) -> ApprovalRequest:
    """The request in a record. Raises `MalformedRecord`."""
    try:
        request = _request_decoder.decode(record.value or b"")
        _ = request.deadline_at_ms  # so that a reader may take it for good
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(
            f"{place(record)}: not an approval request ({error}); only routers may write to this topic"
        ) from error
    return request


def receipt_id(effect: SendReceipt) -> str:
    """The receipt's id, made of the answer's place; in older decisions, of the answer's id."""
    if effect.source is not None:
        return receipt_id_at(effect.source)
    return f"{effect.approval_id}/{effect.answer_id or 'closed'}/receipt"


def encode_receipt(effect: SendReceipt, *, topics: Topics) -> OutRecord:
    """A receipt. Key: the workflow id, so that the receipts of one approval keep their order."""
    at = rfc3339(effect.at_ms)
    value = Receipt(
        approval_id=effect.approval_id,
        answer_id=effect.answer_id,
        status=effect.status,
        code=effect.code,
        verdict=effect.verdict,
        closed=effect.closed,
        # an answer's own words may be longer than its receipt may be
        message=effect.message[: ids.MAX_ID],
        by=effect.by[: ids.MAX_ID],
        at=at,
        source=effect.source,
        choice=effect.choice or msgspec.UNSET,
        have=msgspec.UNSET if effect.have is None else effect.have,
        need=msgspec.UNSET if effect.need is None else effect.need,
        edition=msgspec.UNSET if effect.edition is None else effect.edition,
        on_behalf=effect.on_behalf[: ids.MAX_ID] or msgspec.UNSET,
    )
    headers = binary_headers(
        id=receipt_id(effect),
        source="/mesh/router",
        type=RECEIPT_TYPE,
        workflow_id=effect.workflow_id,
        causation_id=effect.answer_id or None,
        time=at,
    )
    return OutRecord(topic=topics.receipts, key=effect.workflow_id.encode(), value=_encode(value), headers=headers)


def decode_receipt(record: Record) -> Receipt:
    """The receipt in a record. Raises `MalformedRecord`."""
    try:
        return _receipt_decoder.decode(record.value or b"")
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(
            f"{place(record)}: not a receipt ({error}); only routers may write to this topic"
        ) from error


class Signer(NamedTuple):
    """Whose key signs an answer, for which mesh. `sign`: a body, as JWS in compact form."""

    mesh: str
    sign: Callable[[dict[str, Any]], str]


class Personal(NamedTuple):
    """What a person says of a delegation or an absence. `start_ms` 0: from now on."""

    start_ms: int = 0
    until_ms: int = 0
    roles: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    delegation: str = ""

    def fields(self) -> dict[str, Any]:
        """As the record has them, those that say something."""
        return {
            "start": rfc3339(self.start_ms) if self.start_ms else "",
            "until": rfc3339(self.until_ms) if self.until_ms else "",
            "roles": list(self.roles),
            "routes": list(self.routes),
            "delegation": self.delegation,
        }


def encode_response(
    *,
    topics: Topics,
    approval_id: str,
    decision: AnswerKind,
    by: str,
    answer_id: str,
    at_ms: int,
    digest: str | None = None,
    reason: str = "",
    payload: Any = msgspec.UNSET,
    choice: str = "",
    form: Any = None,
    text: str = "",
    to: str = "",
    question: int = 0,
    on_behalf: str = "",
    personal: Personal | None = None,
    traceparent: str | None = None,
    signer: Signer | None = None,
) -> OutRecord:
    """A person's answer, as the mesh's own clients send it.

    `answer_id` is fresh for each answer. `payload` is an edit, null too. With a `signer` it is
    signed. `approval_id` is empty with what a person says of themself, and `personal` has the rest.
    """
    parts = parse_step_id(approval_id)
    workflow_id = ids.person_id(by) if decision in PERSONAL else parts.workflow_id if parts else approval_id
    data: dict[str, Any] = {"approval_id": approval_id} if approval_id else {}
    data |= {"decision": decision, "by": by}
    said = {"digest": digest, "reason": reason, "choice": choice, "text": text, "to": to, "question": question}
    said |= {"for": on_behalf, **({} if personal is None else personal.fields())}
    data |= {name: value for name, value in said.items() if value}
    if form is not None:
        data["form"] = form
    is_edit = payload is not msgspec.UNSET
    if is_edit and signer is None:
        data |= {"payload": payload, "edited": True} if payload is None else {"payload": payload}
    headers = binary_headers(
        id=answer_id,
        source="/mesh/approvers",
        type=RESPONSE_TYPE,
        workflow_id=workflow_id,
        causation_id=approval_id or None,
        traceparent=traceparent,
        time=rfc3339(at_ms),
    )
    if signer is None:
        value = _encode(data)
    else:
        data |= {"mesh": signer.mesh, "answer_id": answer_id, "answered_at": rfc3339(at_ms)}
        data |= {"payload_digest": payload_digest(payload)} if is_edit else {}
        value = encode_signed(signer.sign(data), payload, is_edit=is_edit)
    return OutRecord(topic=topics.responses, key=workflow_id.encode(), value=value, headers=headers)


def decode_response(record: Record) -> AnswerGiven | AnswerGiven2:
    """An answer from any client, ready for the inbox, with the record as its source.

    Many clients write null for what they don't say, so `payload` null alone could be an edit or
    none, and neither is taken: `edited` true says that it is one.

    An answer that version 1 can say is one of version 1.

    Raises `MalformedRecord`: which fields are missing or wrong, and what to send.
    """
    body = read_body(
        record,
        what="answer",
        required=("decision", "by"),
        optional=("approval_id", "digest", "reason", "choice", "text", "to", "for", "answer_id", *_OPTIONAL),
        flags=("edited",),
        anything=("payload", "form", "via", "question", *_LISTS),
        example=_EXAMPLE,
        unwrap=opened,
        also=lambda data: () if _is_personal(data.get("decision")) else ("approval_id",),
    )
    source = {
        "source_topic": record.topic,
        "source_partition": record.partition,
        "source_offset": record.offset,
        "source_at_ms": record.timestamp_ms,
    }
    whole = answer_of(body.data, source, where=place(record), own_id=body.id, traceparent=body.traceparent)
    # a router of before can read the first version, so it is used wherever it says all (ADR 16)
    return first_version(whole) or whole


def _is_personal(decision: Any) -> bool:
    return isinstance(decision, str) and decision.strip().lower() in PERSONAL


def answer_of(
    data: Mapping[str, Any], source: Mapping[str, Any], *, where: str, own_id: str, traceparent: str | None
) -> AnswerGiven2:
    """The answer that these fields say. `source`: where it came from.

    Raises `MalformedRecord`.
    """
    decision = _DECISIONS.get(data["decision"].strip().lower())
    if decision is None:
        raise MalformedRecord(
            f'{where}: the answer\'s `decision` is {data["decision"]!r}; send "approve" or "reject", '
            f"or of a question that takes more, {', '.join(_MORE)}"
        )
    own_id = data.get("answer_id") or own_id
    if decision in PERSONAL:
        return _personal(data, source, decision, where=where, own_id=own_id, traceparent=traceparent)
    approval_id = data.get("approval_id") or ""
    parts = parse_step_id(approval_id)
    if parts is None:
        raise MalformedRecord(
            f"{where}: the answer's `approval_id` {approval_id!r} is not an approval's id "
            "(<workflow id>/<run id>/<step>); copy it from the request, or from `mesh approvals`"
        )
    _refuse_fields(where, data, _OF_PERSONS, f"of {', '.join(sorted(PERSONAL))} alone")
    return AnswerGiven2(
        workflow_id=parts.workflow_id,
        **source,
        approval_id=approval_id,
        answer_id=own_id,
        jws=data.get("jws") or "",
        decision=decision,
        by=data["by"],
        digest=data.get("digest") or None,
        reason=data.get("reason") or "",
        payload=_edit(where, data),
        choice=data.get("choice") or "",
        form=data.get("form"),
        text=data.get("text") or "",
        to=data.get("to") or "",
        question=_question(where, data),
        on_behalf=_on_behalf(where, data, decision),
        traceparent=traceparent,
    )


def _on_behalf(where: str, data: Mapping[str, Any], decision: AnswerKind) -> str:
    """The person for whom an answer is. A delegate votes for the payload as it is, and no more."""
    giver: str = data.get("for") or ""
    if giver and (decision not in _VOTES or "payload" in data):
        raise MalformedRecord(
            f"{where}: the answer is `for` {giver!r:.50}: only {', '.join(_VOTES)} can be, and without a "
            "`payload`; edit in your own name"
        )
    return giver


def _refuse_fields(where: str, data: Mapping[str, Any], names: Iterable[str], why: str) -> None:
    found = [name for name in names if data.get(name) is not None]
    if found:
        raise MalformedRecord(f"{where}: {', '.join(f'`{name}`' for name in found)}: {why}")


def _personal(
    data: Mapping[str, Any],
    source: Mapping[str, Any],
    decision: AnswerKind,
    *,
    where: str,
    own_id: str,
    traceparent: str | None,
) -> AnswerGiven2:
    """What a person says of themself. Raises `MalformedRecord`."""
    wanted = _FIELDS_OF[decision]
    others = {"approval_id", "digest", "choice", "text", "for", "payload", "form", "question", "edited"}
    _refuse_fields(where, data, sorted(others | {"to", *_OF_PERSONS} - wanted.keys()), f"not with {decision}")
    lacking = [name for name, is_needed in wanted.items() if is_needed and not data.get(name)]
    if lacking:
        raise MalformedRecord(f"{where}: {decision} needs {', '.join(f'`{name}`' for name in lacking)}")
    workflow_id = ids.person_id(data["by"])
    longest = max(len(name) for name in (data["by"], data.get("to") or ""))
    if longest > LONGEST_NAME or len(workflow_id) > ids.MAX_ID:
        raise MalformedRecord(f"{where}: a person's name has at most {LONGEST_NAME} characters")
    return AnswerGiven2(
        workflow_id=workflow_id,
        **source,
        approval_id="",
        answer_id=own_id,
        jws=data.get("jws") or "",
        decision=decision,
        by=data["by"],
        reason=(data.get("reason") or "")[:MOST_REASON],
        to=data.get("to") or "",
        start_ms=_instant(where, data, "start"),
        until_ms=_instant(where, data, "until"),
        roles=_names(where, data, "roles"),
        routes=_names(where, data, "routes"),
        delegation=data.get("delegation") or "",
        traceparent=traceparent,
    )


def _instant(where: str, data: Mapping[str, Any], name: str) -> int:
    text = data.get(name)
    if not text:
        return 0
    if not is_rfc3339(text):
        raise MalformedRecord(f"{where}: `{name}` is not an RFC 3339 time, e.g. 2026-11-24T09:00:00Z")
    return parse_rfc3339(text)


def _names(where: str, data: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = data.get(name)
    if found is None:
        return ()
    is_list = isinstance(found, list) and all(isinstance(one, str) and 0 < len(one) <= LONGEST_NAME for one in found)
    # an empty list could mean nothing, or all
    if not is_list or not found or len(found) > MOST_NAMED:
        raise MalformedRecord(f"{where}: `{name}` is not a list of 1 to {MOST_NAMED} names")
    return tuple(found)


def _question(where: str, data: Mapping[str, Any]) -> int:
    """The number of the question that an answer is for; 0 if it names none."""
    number = data.get("question")
    if number is None:
        return 0
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_QUESTIONS:
        raise MalformedRecord(
            f"{where}: the answer's `question` is {number!r:.50}; send the number of an open question, "
            f"from 1 to {MOST_QUESTIONS}"
        )
    return number


def _edit(where: str, data: Mapping[str, Any]) -> Any:
    """The edit that an answer brings; `UNSET` if it brings none."""
    payload, is_edited = data.get("payload", msgspec.UNSET), data.get("edited")
    if payload is None and is_edited is None:
        raise PayloadIsNull(
            f"{where}: the answer's `payload` is null: leave it out to approve what was asked; "
            'with "edited": true null is an edit'
        )
    if is_edited and payload is msgspec.UNSET:
        raise MalformedRecord(f"{where}: the answer says `edited`, and brings no `payload`; send {_EXAMPLE}")
    if is_edited is False and payload not in (msgspec.UNSET, None):
        raise MalformedRecord(f"{where}: the answer brings a `payload`, and says that nothing was edited")
    return msgspec.UNSET if is_edited is False else payload
