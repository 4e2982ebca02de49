"""The schemas of messages that are derived from the code.

Owns what each message's schema says: most of it from the classes that read and write the records,
and by hand where a record has forms that no class shows. `topics.generate` writes the files.
"""

from typing import Any, Final, get_args

import msgspec

from mesh.codec.approvals import ApprovalRequest, Receipt
from mesh.codec.approver_keys import ApproverKeyBody, KeyRevocationBody
from mesh.codec.calendars import CalendarActivationBody, CalendarBody
from mesh.codec.channels import Channel
from mesh.codec.commands import CommandReceipt
from mesh.codec.definitions import ActivationBody
from mesh.codec.delegations import AbsenceBody, DelegationBody, DelegationEndBody
from mesh.codec.handlings import Handling
from mesh.codec.notices import Notice
from mesh.codec.open_approvals import OpenNote, OpenPayload, OpenRequest, OpenStanding
from mesh.codec.operations import Forks, Ids, Ordered, Progress, Stopped
from mesh.codec.orders import ORDERS
from mesh.codec.outcomes import Outcome
from mesh.codec.people import PeopleActivationBody, PeopleBody
from mesh.codec.router_cards import RouterCard
from mesh.codec.schedules import Told
from mesh.codec.sealing import KeyRecord
from mesh.codec.withdrawals import Withdrawal
from mesh.core.approvals import MOST_NAMES
from mesh.core.delegations import MOST_NAMED
from mesh.core.events import LogRecord
from mesh.core.ids import PAUSES
from mesh.core.inputs import PERSONAL, AnswerKind, Command, InboxInput
from mesh.core.questions import MOST_QUESTIONS
from mesh.routes.keys import ROUTE

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
STRING: Final = {"type": "string"}
SOME_STRING: Final = {"type": "string", "minLength": 1}
SOME_TEXT: Final = {"type": "string", "pattern": r"\S"}
DIGEST: Final = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
STRING_OR_NULL: Final = {"type": ["string", "null"]}


def schemas() -> dict[str, dict[str, Any]]:
    """The derived schemas by name."""
    return {
        "event": _event(),
        "inbox": _of_types(
            "Inbox record",
            "The value of a record of mesh.inbox: an input of a partition's owner. Routers alone write and read it.",
            InboxInput,
        ),
        "log-record": _of_types(
            "Log record",
            (
                "The value of a record of mesh.log: a decision, or a change of owner. Tags carry a "
                "version; a reader that meets an unknown one stops."
            ),
            LogRecord,
        ),
        "approval-request": _of_types(
            "Approval request",
            "The value of a record of mesh.approvals.requests: what a human is asked.",
            ApprovalRequest,
        ),
        "open-approval": _of_types(
            "Open approval",
            "The value of a record of mesh.approvals.open (compacted), by its key: request/<approval id>, "
            "payload/<approval id> (the newest edition, once edited), standing/<approval id> (once somebody has "
            "voted), note/<n>/<approval id>; a tombstone for each says that the approval is closed.",
            OpenRequest,
            OpenPayload,
            OpenStanding,
            OpenNote,
        ),
        "approval-response": _response(),
        "approval-receipt": _of_types(
            "Approval receipt",
            (
                "The value of a record of mesh.approvals.receipts: what became of an answer, or of an "
                "approval that ended without one."
            ),
            Receipt,
        ),
        "command": _command(),
        "command-receipt": _of_types(
            "Command receipt",
            "The value of a record of mesh.commands.receipts: what became of an operator's command.",
            CommandReceipt,
        ),
        "schedule-set": _of_types(
            "Schedule set",
            (
                "The value of a record of mesh.commands with ce_type mesh.schedule_set: what a router "
                "tells of a route's schedule, at its start."
            ),
            Told,
        ),
        "definition": _definition(),
        "activation": _of_types(
            "Activation",
            "The value of a record of mesh.definitions whose key is activation/ and a fresh id: these "
            "versions are the routes of their names for events that the broker "
            "takes two seconds after it or later; null withdraws a route. Stored in partition 0, "
            "after the versions that it names.",
            ActivationBody,
        ),
        "people": _of_types(
            "People",
            "The value of a record of mesh.approvals.people whose key is people/ and the digest of this value: a "
            "version of the people, their further names and their "
            "roles. Names are compared after NFKC and case folding, and no two people share one.",
            PeopleBody,
        ),
        "people-activation": _of_types(
            "Activation of people",
            "The value of a record of mesh.approvals.people whose key is activation/ and a fresh id: this version "
            "of the people holds for answers that the broker takes two seconds after it or later; the topic's first "
            "activation also holds for all answers before it. Stored in partition 0, after the version that it names.",
            PeopleActivationBody,
        ),
        "approver-key": _of_types(
            "Approver key",
            "The value of a record of mesh.approvals.people whose key is key/ and the thumbprint of the public key "
            "(RFC 7638): answers that this key signs are those of `person`, if the broker takes them two seconds after "
            "it or later. Stored in partition 0, once.",
            ApproverKeyBody,
        ),
        "key-revocation": _of_types(
            "Revocation of a key",
            "The value of a record of mesh.approvals.people whose key is revocation/ and the thumbprint of a key: "
            "nothing that it signs counts any more, if the broker takes it two seconds after this or later. `since`: "
            "RFC 3339, from when on the key is distrusted, for the audit. Stored in partition 0, once.",
            KeyRevocationBody,
        ),
        "delegation": _of_types(
            "Delegation",
            "The value of a record of mesh.approvals.delegations, or of mesh.approvals.people if who grants roles says so, whose key is delegation/ and its id: `to` may answer for "
            "`from`, for answers that the broker takes from `start` on and before `until` (90 days at most), and two "
            "seconds after this record or later. Stored in partition 0; the first record of an id is the one.",
            DelegationBody,
        ),
        "delegation-end": _of_types(
            "End of a delegation",
            "The value of a record of mesh.approvals.delegations, or of mesh.approvals.people if who grants roles says so, whose key is delegation-end/ and a delegation's id: nothing "
            "that the broker takes two seconds after it or later is answered under that. It never comes back.",
            DelegationEndBody,
        ),
        "absence": _of_types(
            "Absence",
            "The value of a record of mesh.approvals.delegations, or of mesh.approvals.people if who grants roles says so, whose key is absent/ and a person's id: nobody has to remind "
            "them. Of two records the one that was `said` later counts. It takes no right.",
            AbsenceBody,
        ),
        "channel": _of_types(
            "Channel",
            "The value of a record of mesh.approvals.people whose key is channel/ and a person's id: where the notifier "
            "sends what it has to tell them. A tombstone takes all addresses away.",
            Channel,
        ),
        "notice": _of_types(
            "Notice",
            "The value of a record of mesh.approvals.notices: what a person hears at one of their addresses; first "
            "due, then sent, undelivered or dropped. The last record with this id and channel is what became of it.",
            Notice,
        ),
        "dead-letter-handling": _of_types(
            "Handling of a dead letter",
            "The value of a record of mesh.dlq with ce_type mesh.dlq.handling, in the partition of the letter that it "
            "is about: an operator has taken it to send it back, has sent it, could not, or has discarded it. `taken` "
            "and `discarded` count only if `after` names the letter's last operation.",
            Handling,
        ),
        "operation": _of_types(
            "Bulk operation",
            "The value of a record of mesh.operations: what is ordered of how many workflows; some of their ids, "
            "or their forks; how many commands are sent; or that it is stopped. Nothing is ordered before the record that is tagged "
            "ordered, which comes after all the ids.",
            Ordered,
            Ids,
            Forks,
            Progress,
            Stopped,
        ),
        "calendar": _of_types(
            "Calendar",
            "The value of a record of mesh.approvals.people whose key is calendar/, the calendar's name, / and the "
            "digest of this value: a version of working hours, compiled to UTC. Times are whole minutes: of the epoch "
            "in from, until and the first number of each day, its local midnight; after that midnight in the day's "
            "further numbers, which are start, end, start, end.",
            CalendarBody,
        ),
        "calendar-activation": _of_types(
            "Activation of a calendar",
            "The value of a record of mesh.approvals.people whose key is calendar-activation/ and a fresh id: this "
            "version of the calendar holds for approvals that are asked by what the broker takes two seconds after it "
            "or later. Stored after the version that it names.",
            CalendarActivationBody,
        ),
        "withdrawal": _of_types(
            "Withdrawal",
            (
                "The value of a record of mesh.withdrawals: nobody wants this attempt any more. Need not "
                "be begun, and may be cut short."
            ),
            Withdrawal,
        ),
        "payload-key": _of_types(
            "Payload key",
            "The value of a record of mesh.keys (compacted): the key, AES-256 in base64, with which decisions on this "
            "private workflow are sealed. A tombstone erases what it has sealed.",
            KeyRecord,
        ),
        "router-card": _of_types(
            "Router card",
            "The value of a record of mesh.routers (compacted): what one router says of itself, sent "
            "at its start and renewed well before it expires; "
            "a tombstone withdraws it.",
            RouterCard,
        ),
        "outcome": _of_types(
            "Outcome", "The value of a record of mesh.outcomes, a CloudEvent of type mesh.workflow.<status>.", Outcome
        ),
    }


def _of_types(title: str, description: str, *types: Any) -> dict[str, Any]:
    """The schema of one of `types`."""
    found, components = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    schema = found[0] if len(found) == 1 else {"anyOf": list(found)}
    plain = _plain({**schema, "$defs": components})
    return {"$schema": DIALECT, "title": title, "description": description, **plain}


def _plain(schema: Any) -> Any:
    """The schema without what AsyncAPI's own schema language refuses.

    `discriminator` is an object in OpenAPI and a string in AsyncAPI. It only helps code generators,
    because each variant has its tag as a constant. `items: false` closes a tuple, and so does
    `maxItems`.
    """
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = schema.get("items") is False
    if closed and "maxItems" not in schema:
        raise ValueError(f"a tuple of any length can't be written for AsyncAPI: {schema}")
    return {
        name: _plain(value)
        for name, value in schema.items()
        if not (name == "items" and closed) and not (name == "discriminator" and "propertyName" in value)
    }


def _event() -> dict[str, Any]:
    return {
        "$schema": DIALECT,
        "title": "Event",
        "description": "A CloudEvent 1.0 as a record of mesh.events holds it in structured mode. In binary mode "
        "each attribute is a header "
        "ce_<attribute>, datacontenttype is the header content-type, and the data is the value. "
        "An attribute that is null is absent; an extension "
        "that is a boolean or a number is read as its text, as in binary mode.",
        "type": "object",
        "required": ["specversion", "id", "source", "type"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {
                **SOME_STRING,
                "description": "Unique within its source: an event with the same source and id is the same event.",
            },
            "source": {**SOME_STRING, "description": "A URI reference: where it happened."},
            "type": {
                **SOME_STRING,
                "description": "What happened, e.g. com.github.issues.opened; routes are chosen by it.",
            },
            "subject": STRING_OR_NULL,
            "time": {**STRING_OR_NULL, "description": "RFC 3339."},
            "datacontenttype": {**STRING_OR_NULL, "description": "application/json if it is absent."},
            "dataschema": STRING_OR_NULL,
            "traceparent": {**STRING_OR_NULL, "description": "W3C Trace Context: the run becomes part of this trace."},
            "tracestate": {**STRING_OR_NULL, "description": "W3C Trace Context: passed on with the run's own events."},
            "data": {"description": "Any JSON value; a string where datacontenttype is not JSON."},
            "data_base64": {**STRING_OR_NULL, "contentEncoding": "base64"},
        },
        "not": {
            "required": ["data", "data_base64"],
            "properties": {"data": {"not": {"type": "null"}}, "data_base64": STRING},
        },
        "propertyNames": {"pattern": "^([A-Za-z0-9]+|data_base64)$"},
        "additionalProperties": {"type": ["string", "boolean", "integer", "null"]},
    }


def _response() -> dict[str, Any]:
    return {
        "$schema": DIALECT,
        "title": "Approval response",
        "description": "The value of a record of mesh.approvals.responses: a person's answer, bare or signed. No "
        "CloudEvents headers are needed; if there are any, "
        "ce_id is the answer's id, unless a signature says another.",
        "anyOf": [_bare_response(), _personal_response(), _signed_response()],
    }


def _signed_response() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["jws"],
        "properties": {
            "jws": {
                "type": "string",
                "pattern": "^[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+$",
                "description": "JWS in compact form: alg Ed25519, typ mesh-answer+jws, kid the key's thumbprint. "
                "Its body has the fields of a bare answer but payload and edited, and mesh, answer_id, answered_at, "
                "and payload_digest where there is an edit.",
            },
            "payload": {"description": "An edit, whose digest is in the body."},
        },
        "additionalProperties": False,
    }


def _personal_response() -> dict[str, Any]:
    names = {"type": ["array", "null"], "items": SOME_STRING, "minItems": 1, "maxItems": MOST_NAMED}
    return {
        "type": "object",
        "required": ["decision", "by"],
        "properties": {
            "decision": {
                "enum": sorted(PERSONAL),
                "description": "What a person says of themself, and of no approval: that somebody may answer for them, "
                "that a delegation ends, or that they are away.",
            },
            "by": {**SOME_TEXT, "description": "Whose delegation or absence it is."},
            "to": {**STRING_OR_NULL, "description": "delegate: who may answer for `by`."},
            "start": {**STRING_OR_NULL, "description": "delegate, absent: RFC 3339; from now on without it."},
            "until": {**STRING_OR_NULL, "description": "delegate, absent: RFC 3339. A delegation has 90 days at most."},
            "roles": {**names, "description": "delegate: only by these roles of `by`; all without it."},
            "routes": {**names, "description": "delegate: only in these routes; everywhere without it."},
            "delegation": {**STRING_OR_NULL, "description": "end: the delegation's id, as its receipt says it."},
            "reason": STRING_OR_NULL,
            "answer_id": {**STRING_OR_NULL, "description": "As of an answer to an approval."},
        },
        "additionalProperties": False,
    }


def _bare_response() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["approval_id", "decision", "by"],
        "properties": {
            "approval_id": {**SOME_TEXT, "description": "As asked: <workflow id>/<run id>/<step>."},
            "decision": {
                "enum": [*(kind for kind in get_args(AnswerKind) if kind not in PERSONAL), "approved", "rejected"],
                "description": "All but approve and reject are for requests of version 2.",
            },
            "by": {**SOME_TEXT, "description": "Who answers; must have the role that the request names."},
            "digest": {
                **STRING_OR_NULL,
                "description": (
                    "As asked: binds the answer to the payload that was shown. Of version 2 a vote and an "
                    "edit must have it."
                ),
            },
            "reason": STRING_OR_NULL,
            "choice": {**STRING_OR_NULL, "description": "choose: one of the terms' choices."},
            "form": {"description": "What the terms' form asks for; any JSON."},
            "text": {**STRING_OR_NULL, "description": "comment, ask, inform: what is said."},
            "to": {**STRING_OR_NULL, "description": "ask: whom, as the question's terms name them."},
            "for": {
                **STRING_OR_NULL,
                "description": "approve, reject, choose: the person whose vote it is, who has delegated to `by`.",
            },
            "question": {
                "type": ["integer", "null"],
                "minimum": 1,
                "maximum": MOST_QUESTIONS,
                "description": "inform: the number of the question; not needed where one alone is open.",
            },
            "answer_id": {
                **STRING_OR_NULL,
                "description": (
                    "Fresh for each answer. Without it: the CloudEvent's id, or the record's place. Sent "
                    "again it counts once."
                ),
            },
            "payload": {
                "description": (
                    "An edit, instead of the payload asked; must hold to payload_schema. Null needs `edited`."
                )
            },
            "edited": {
                "type": ["boolean", "null"],
                "description": (
                    "Whether `payload` is an edit. Needed where it is null: true, it is one; false, it is none."
                ),
            },
        },
        "additionalProperties": False,
        "allOf": [
            # many clients write null for what they don't say
            {
                "if": {"required": ["payload"], "properties": {"payload": {"type": "null"}}},
                "then": {"required": ["edited"], "properties": {"edited": {"type": "boolean"}}},
            },
            {
                "if": {"required": ["edited"], "properties": {"edited": {"const": True}}},
                "then": {"required": ["payload"]},
            },
            {
                "if": {"required": ["edited"], "properties": {"edited": {"const": False}}},
                "then": {"properties": {"payload": {"type": "null"}}},
            },
        ],
    }


def _order() -> dict[str, Any]:
    text: dict[str, Any] = {"type": ["string", "null"]}
    names: dict[str, Any] = {"type": ["array", "null"], "items": {"type": "string"}, "maxItems": MOST_NAMES}
    return {
        "description": "extend, reassign, void: what of which open approval of this workflow.",
        "type": "object",
        "required": ["approval_id"],
        "properties": {
            "approval_id": {"type": "string", "description": "As asked: <workflow id>/<run id>/<step>."},
            "plus": {**text, "description": "extend: how much longer it is open, such as 4h."},
            "until": {**text, "description": "extend: the new deadline, RFC 3339, instead of `plus`."},
            "roles": {**names, "description": "reassign: roles that may answer."},
            "people": {**names, "description": "reassign: people who may answer."},
            "replace": {"type": ["boolean", "null"], "description": "reassign: nobody else may from then on."},
            "voter": {**text, "description": "void: whose vote is taken back."},
        },
        "additionalProperties": False,
    }


def _command() -> dict[str, Any]:
    orders = {"enum": sorted(ORDERS)}
    return {
        "$schema": DIALECT,
        "title": "Command",
        "description": "The value of a record of mesh.commands: an operator's command. No CloudEvents headers "
        "are needed; if there are any, ce_id is "
        "the command's id.",
        "type": "object",
        "required": ["command", "workflow_id", "by"],
        "properties": {
            "command": {"enum": list(get_args(Command))},
            "order": _order(),
            "workflow_id": {**SOME_TEXT, "pattern": "^[^:]+:.", "description": "<route>:<key>"},
            "by": SOME_TEXT,
            "reason": STRING_OR_NULL,
            "step": {
                **STRING_OR_NULL,
                "description": (
                    "retry, skip, fail: the incident of this step alone (of one item: `check[7]`; of a "
                    "compensation: `hotel.undo`). complete: the step whose output it gives."
                ),
            },
            "to": {
                "description": "migrate: the digest of the version to go over to.",
                "anyOf": [DIGEST, {"enum": [None, ""]}],
            },
            "keys": {
                "type": ["array", "null"],
                "items": {"type": "string"},
                "maxItems": 1000,
                "description": "erase: the ids of the keys to delete, as mesh.keys names them.",
            },
            "operation": {
                **STRING_OR_NULL,
                "description": "The bulk operation that it is a part of: each workflow obeys one of its commands.",
            },
            "target": {
                **STRING_OR_NULL,
                "description": "pause, resume, to mesh.pauses:0: the agent or the route, as agent/<name> or route/<name>.",
            },
            "input": {"description": "retry: the input of the one step that has the incident; any JSON."},
            "fork": {
                "type": "object",
                "description": "fork, to a new id: the other workflow `of` and its `run_id`, its start `event`, the "
                "results of its `steps` to keep. To the other workflow: `into`, the new id.",
            },
            "output": {"description": "complete: the output of the step; any JSON."},
        },
        "additionalProperties": False,
        "if": {"properties": {"command": {"const": "migrate"}}},
        "then": {"required": ["to"], "properties": {"to": DIGEST}},
        "else": {
            "if": {"not": {"properties": {"command": {"const": "fork"}}}},
            "then": {"properties": {"to": {"enum": [None, ""]}}},
        },
        "allOf": [
            {"if": {"required": ["input"]}, "then": {"properties": {"command": {"enum": ["retry", "fork"]}}}},
            {
                "if": {"required": ["keys"], "properties": {"keys": {"type": "array"}}},
                "then": {"properties": {"command": {"const": "erase"}}},
            },
            {"if": {"required": ["fork"]}, "then": {"properties": {"command": {"const": "fork"}}}},
            {
                "if": {"properties": {"command": {"const": "fork"}}},
                "then": {"required": ["step", "fork"], "properties": {"step": SOME_TEXT}},
            },
            {"if": {"required": ["output"]}, "then": {"properties": {"command": {"const": "complete"}}}},
            {
                "if": {"properties": {"command": {"const": "complete"}}},
                "then": {"required": ["step", "output"], "properties": {"step": SOME_TEXT}},
            },
            {"if": {"required": ["order"]}, "then": {"properties": {"command": orders}}},
            {"if": {"properties": {"command": orders}}, "then": {"required": ["order"]}},
            {
                "if": {"properties": {"command": {"enum": ["pause", "resume"]}, "workflow_id": {"const": PAUSES}}},
                "then": {
                    "required": ["target"],
                    "properties": {"target": {**SOME_TEXT, "pattern": "^(agent|route)/."}},
                },
                "else": {"properties": {"target": {"enum": [None, ""]}}},
            },
        ],
    }


def _definition() -> dict[str, Any]:
    return {
        "$schema": DIALECT,
        "title": "Definition",
        "description": (
            "The value of a record of mesh.definitions: a route as it was written, in JSON. The key "
            "is the digest of its canonical form."
        ),
        "type": "object",
        "required": ["route", "steps"],
        "properties": {
            "route": SOME_STRING,
            "on": {"type": "object", "oneOf": [{"required": ["type"]}, {"required": ["schedule"]}]},
            "steps": {"type": "object", "minProperties": 1},
        },
        "propertyNames": {"enum": list(ROUTE.keys)},
    }
