"""The AsyncAPI document: the mesh's topics and messages, for other languages and tools.

Owns its form. `topics.yaml` says what topics there are, and `topics.message_schemas` what their
messages hold.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from mesh.codec.dead_letters import HEADERS
from mesh.codec.event_batches import MAX_EVENTS
from mesh.services.topic_plan import Contract, contracts
from topics.message_schemas import STRING, schemas

FOLDER: Final = Path(__file__).parent
BINDING: Final = "0.5.0"
# What the Kafka binding of AsyncAPI knows of a topic's configuration, and the type that it wants.
# The rest is under `x-kafka-config`.
BOUND: Final[dict[str, type]] = {
    "cleanup.policy": list,
    "retention.ms": int,
    "retention.bytes": int,
    "max.message.bytes": int,
}
STRUCTURED_EVENT: Final = "event-structured"
EVENT_BATCH: Final = "event-batch"
# Header names in lower case; what every CloudEvent in binary mode may have beside its extensions.
EVENT_HEADERS: Final = ("subject", "time", "dataschema", "partitionkey")


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3 document.

    It has a channel for each topic, and an operation for each application that writes or reads it.
    """
    found = contracts()
    names = sorted({message for contract in found for message in contract.messages})
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Agent mesh",
            "version": "1",
            "description": (
                "Derived from topics.yaml by `python -m topics.generate`. Addresses have the default prefix, mesh."
            ),
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": "localhost:9092", "protocol": "kafka"}},
        "channels": {_channel_id(contract): _channel(contract) for contract in found},
        "operations": {name: operation for contract in found for name, operation in _operations(contract).items()},
        "components": {"messages": _messages(found, names)},
    }


def _messages(found: tuple[Contract, ...], names: Iterable[str]) -> dict[str, Any]:
    messages = {name: _message(name, _key(found, name)) for name in names}
    # What `mesh publish` writes is binary mode; both are read.
    structured = messages["event"]
    messages["event"] = {
        **structured,
        "summary": "Binary mode: attributes are headers, the value is the data.",
        "headers": _event_headers(structured["headers"]),
        "payload": {"description": "The event's data. JSON, unless the header content-type says otherwise."},
    }
    messages[STRUCTURED_EVENT] = {
        **structured,
        "name": STRUCTURED_EVENT,
        "summary": "Structured mode: the value is the whole event in CloudEvents' JSON format.",
        "contentType": "application/cloudevents+json",
        "headers": _structured_headers("^application/cloudevents([+]json)? *(;|$)"),
    }
    messages[EVENT_BATCH] = {
        **messages[STRUCTURED_EVENT],
        "name": EVENT_BATCH,
        "summary": "Batched mode: the value is an array of events in CloudEvents' JSON format, each taken on its own.",
        "contentType": "application/cloudevents-batch+json",
        "headers": _structured_headers("^application/cloudevents-batch([+]json)? *(;|$)"),
        "payload": {"type": "array", "maxItems": MAX_EVENTS, "items": structured["payload"]},
    }
    return messages


def _event_headers(common: dict[str, Any]) -> dict[str, Any]:
    """The headers of an event in binary mode: the mesh's own records have no extensions but two."""
    content_type = {
        **STRING,
        "description": "The datacontenttype. JSON if it is absent; ce_datacontenttype is taken if it says the same.",
    }
    more = {f"ce_{name}": STRING for name in EVENT_HEADERS}
    return {
        **common,
        "description": (
            "CloudEvents 1.0 in Kafka's binary mode: UTF-8, not percent-encoded. Extensions are headers ce_<name>."
        ),
        "properties": {**common["properties"], "content-type": content_type, **more},
        "additionalProperties": STRING,
    }


def _structured_headers(pattern: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["content-type"],
        "properties": {"content-type": {**STRING, "pattern": pattern}},
    }


def _channel_id(contract: Contract) -> str:
    first, *rest = contract.name.split(".")
    return first + "".join(word.capitalize() for word in rest)


def _channel(contract: Contract) -> dict[str, Any]:
    binding: dict[str, Any] = {
        "topicConfiguration": {
            name: [contract.config[name]] if kind is list else kind(contract.config[name])
            for name, kind in BOUND.items()
            if name in contract.config
        },
        "bindingVersion": BINDING,
    }
    if isinstance(contract.partitions, int):
        binding = {"partitions": contract.partitions, **binding}
    channel: dict[str, Any] = {
        "address": f"mesh.{contract.name}" + (".{agent}" if contract.per_agent else ""),
        "description": contract.description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _names_of(contract)},
        "bindings": {"kafka": binding},
        "x-partitions": contract.partitions,
        "x-kafka-config": {name: value for name, value in contract.config.items() if name not in BOUND},
    }
    if contract.per_agent:
        channel["parameters"] = {"agent": {"description": "The agent's name, as routes use it."}}
    return channel


def _names_of(contract: Contract) -> list[str]:
    return [*contract.messages, *([STRUCTURED_EVENT, EVENT_BATCH] if "event" in contract.messages else [])]


_MEMBERS: Final = {"ingress": "router"}
"""Who joins a group that has another name."""


def _operations(contract: Contract) -> dict[str, Any]:
    channel = _channel_id(contract)
    title = channel[0].upper() + channel[1:]
    operations: dict[str, Any] = {}
    for application in contract.writers:
        operations[f"{application}Sends{title}"] = {"action": "send", "channel": {"$ref": f"#/channels/{channel}"}}
    for application in contract.readers:
        operation: dict[str, Any] = {"action": "receive", "channel": {"$ref": f"#/channels/{channel}"}}
        # the others who read it are in no group
        if contract.group is not None and application == _MEMBERS.get(contract.group, contract.group):
            group = "mesh.agent." if contract.group == "agent" else f"mesh.{contract.group}"
            shape = (
                {"pattern": f"^{group.replace('.', chr(92) + '.')}.+$"}
                if contract.group == "agent"
                else {"enum": [group]}
            )
            operation["bindings"] = {"kafka": {"groupId": {"type": "string", **shape}, "bindingVersion": BINDING}}
        operations[f"{application}Receives{title}"] = operation
    return operations


def _key(found: tuple[Contract, ...], message: str) -> str:
    return next(contract.key for contract in found if message in contract.messages)


def _message(name: str, key: str) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": name,
        "contentType": "application/json",
        "headers": _dead_letter_headers() if name == "dead-letter" else _cloud_event_headers(name),
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": BINDING}},
    }
    if (FOLDER / "schemas" / f"{name}.json").exists() or name in schemas():
        message["payload"] = {"$ref": f"./schemas/{name}.json"}
    return message


def _cloud_event_headers(name: str) -> dict[str, Any]:
    optional = name in {
        "approval-response",
        "command",
        "task",
        "result",
        "agent-card",
        "definition",
        "activation",
        "people",
        "people-activation",
        "approver-key",
        "key-revocation",
        "delegation",
        "delegation-end",
        "absence",
        "channel",
        "calendar",
        "calendar-activation",
    }
    return {
        "type": "object",
        "description": "CloudEvents 1.0 in Kafka's binary mode."
        + (" A reader here does without them, or takes structured mode." if optional else ""),
        **({} if optional else {"required": ["ce_specversion", "ce_id", "ce_source", "ce_type"]}),
        "properties": {
            "ce_specversion": {"const": "1.0"},
            "ce_id": STRING,
            "ce_source": STRING,
            "ce_type": STRING,
            "content-type": STRING,
            "ce_correlationid": {**STRING, "description": "The workflow id."},
            "ce_causationid": {**STRING, "description": "What brought it about."},
            "traceparent": {
                **STRING,
                "examples": ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            },
        },
    }


def _dead_letter_headers() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "The original's headers, and after them these.",
        "required": list(HEADERS),
        "properties": dict.fromkeys(HEADERS, STRING),
    }
