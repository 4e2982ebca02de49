"""Whether a change of the topics' contracts breaks those who hold to the old ones.

Owns the comparison of two states of `topics/`: `topics.yaml`, and the JSON Schemas of the messages.
It asks no broker. `mesh topics check --against` prints what it finds.

The rule: what was written by the old contract must be valid by the new one, and nobody may find
gone what the old one promised. Records live for months, and the mesh's log without end, so the new
contract must read them all. New topics, new messages and new optional fields are no break, since
readers skip what they do not know.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec

from mesh.errors import OperatorError
from mesh.resources import CHECKOUT
from mesh.services.topic_plan import Contract, contracts

GIT_TIMEOUT_S: Final = 60
_LOWER_BOUNDS: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER_BOUNDS: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_CHOICES: Final = ("anyOf", "oneOf")
_KEPT_CONFIG: Final = ("cleanup.policy", "message.timestamp.type")
_MAX_BYTES: Final = "max.message.bytes"

Schema = Any  # a JSON Schema: an object, true or false


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which those who hold to the old contract are broken.

    `where`: a topic, or a message and a path in it.
    """

    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


class Contracts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in `topics/` that others hold to."""

    topics: tuple[Contract, ...]
    schemas: dict[str, Schema]  # by message


def read_contracts(folder: Path) -> Contracts:
    """What a folder says. Raises `OperatorError` if it has no contracts, or unreadable ones."""
    try:
        schemas = {file.stem: json.loads(file.read_bytes()) for file in sorted((folder / "schemas").glob("*.json"))}
    except (OSError, ValueError) as error:
        raise OperatorError(f"{folder}/schemas: the messages' schemas can't be read ({error})") from error
    return Contracts(topics=contracts(folder), schemas=schemas)


def contracts_of(place: str) -> Contracts:
    """The contracts in a folder, or in a revision of the checkout's git history."""
    if (Path(place) / "topics.yaml").is_file():
        return read_contracts(Path(place))
    if Path(place).is_dir():
        raise OperatorError(f"{place}: no topics.yaml is in this folder; name one that has it, or a git revision")
    with TemporaryDirectory(prefix="mesh-contracts-") as folder:
        _check_out(place, Path(folder))
        return read_contracts(Path(folder) / "topics")


def _check_out(revision: str, folder: Path) -> None:
    if CHECKOUT is None:
        raise OperatorError(f"{revision}: no such folder, and this is no checkout with a history; name a folder")
    try:
        # `--` would make it a path, so a word that git may take for an option is refused here
        if revision.startswith("-"):
            raise OperatorError(f"{revision}: no git revision begins with a dash")
        packed = _git("archive", "--format=tar", revision, "topics/topics.yaml", "topics/schemas")
        subprocess.run(["tar", "-x", "-C", str(folder)], input=packed, check=True, timeout=GIT_TIMEOUT_S)  # noqa: S603, S607 - our own arguments
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip()
        raise OperatorError(f"{revision}: neither a folder nor a git revision with topics/ ({said})") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OperatorError(f"{revision}: git can't be asked ({error}); name a folder") from error


def _git(*arguments: str) -> bytes:
    ran = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, check=True, timeout=GIT_TIMEOUT_S)  # noqa: S603, S607 - `git`, wherever it is
    return ran.stdout


def breaks(old: Contracts, new: Contracts) -> list[Break]:
    """Every break, topics first; empty if the new contracts may follow the old ones."""
    return [*_of_topics(old, new), *_of_messages(old, new)]


# Topics -------------------------------------------------------------------------------------------


def _of_topics(old: Contracts, new: Contracts) -> Iterator[Break]:
    there = {contract.name: contract for contract in new.topics}
    for before in old.topics:
        after = there.get(before.name)
        reasons = ["the topic is gone"] if after is None else _of_topic(before, after)
        yield from (Break(where=before.name, why=why) for why in reasons)


def _of_topic(old: Contract, new: Contract) -> Iterator[str]:
    if old.key != new.key:
        yield f"its key was {old.key!r} and is {new.key!r}: records of one thing would lie in two partitions"
    for name in ("partitions", "fixed", "per_agent", "group"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"`{name}` was {before!r} and is {after!r}"
    for name in _KEPT_CONFIG:
        if old.config.get(name) != new.config.get(name):
            yield f"{name} was {old.config.get(name)} and is {new.config.get(name)}"
    if int(new.config[_MAX_BYTES]) < int(old.config[_MAX_BYTES]):
        yield f"{_MAX_BYTES} was {old.config[_MAX_BYTES]} and is {new.config[_MAX_BYTES]}: records of before do not fit"
    for name in ("writers", "readers", "messages"):
        for one in getattr(old, name):
            if one not in getattr(new, name):
                yield f"{one!r} is not among its {name} any more"


# Messages -----------------------------------------------------------------------------------------


def _of_messages(old: Contracts, new: Contracts) -> Iterator[Break]:
    for name, before in old.schemas.items():
        if name in new.schemas:
            yield from _Comparison(old.schemas, new.schemas).of(name, (name, before), (name, new.schemas[name]))
        else:
            yield Break(where=name, why="the message's schema is gone")


class _Comparison:
    """Compares two schemas, through their references.

    A schema is with the name of its document, in which its references are looked up. What was
    compared once is not looked at again, so that a schema may refer to itself.
    """

    def __init__(self, old: Mapping[str, Schema], new: Mapping[str, Schema]) -> None:
        self._old, self._new = old, new
        self._seen: set[tuple[str, str, str, str]] = set()

    def of(self, where: str, old: tuple[str, Schema], new: tuple[str, Schema]) -> Iterator[Break]:
        (old_name, before), (new_name, after) = _resolved(self._old, *old), _resolved(self._new, *new)
        pair = (old_name, json.dumps(before, sort_keys=True), new_name, json.dumps(after, sort_keys=True))
        if pair in self._seen:
            return
        self._seen.add(pair)
        before, after = _as_object(before), _as_object(after)
        yield from (Break(where=where, why=why) for why in _of_values(before, after))
        yield from self._of_fields(where, (old_name, before), (new_name, after))
        if "items" in after:
            yield from self.of(f"{where}[]", (old_name, before.get("items", True)), (new_name, after["items"]))
        if "propertyNames" in after:
            names = before.get("propertyNames", True)
            yield from self.of(f"{where}.<name>", (old_name, names), (new_name, after["propertyNames"]))
        for word in _CHOICES:
            yield from self._of_choices(where, word, (old_name, before), (new_name, after))

    def _of_fields(
        self, where: str, old: tuple[str, dict[str, Any]], new: tuple[str, dict[str, Any]]
    ) -> Iterator[Break]:
        before, after = old[1], new[1]
        fields, kept = before.get("properties", {}), after.get("properties", {})
        elsewhere = self._in_choices(*new)
        for name in after.get("required", []):
            if name not in before.get("required", []):
                yield Break(where=f"{where}.{name}", why="the field is newly required: records of before may lack it")
        for name, schema in fields.items():
            if name in kept:
                yield from self.of(f"{where}.{name}", (old[0], schema), (new[0], kept[name]))
            elif name not in elsewhere:
                yield Break(where=f"{where}.{name}", why="the field is gone: who reads it finds nothing")
        more = after.get("additionalProperties", True)
        if more is not True:
            was = before.get("additionalProperties", True)
            yield from self.of(f"{where}.*", (old[0], was), (new[0], more))

    def _in_choices(self, name: str, schema: dict[str, Any]) -> set[str]:
        """The fields that the schema's choices have, on any level of choices."""
        found = set[str]()
        for choice in (one for word in _CHOICES for one in schema.get(word, [])):
            place, resolved = _resolved(self._new, name, choice)
            found |= _as_object(resolved).get("properties", {}).keys() | self._in_choices(place, _as_object(resolved))
        return found

    def _of_choices(
        self, where: str, word: str, old: tuple[str, dict[str, Any]], new: tuple[str, dict[str, Any]]
    ) -> Iterator[Break]:
        """Each choice of before must fit one of now."""
        if word not in new[1]:
            return
        for number, choice in enumerate(old[1].get(word, [old[1]])):
            if not any(self._fits((old[0], choice), (new[0], one)) for one in new[1][word]):
                yield Break(where=where, why=f"choice {number} of its `{word}` fits none of now")

    def _fits(self, old: tuple[str, Schema], new: tuple[str, Schema]) -> bool:
        return not any(_Comparison(self._old, self._new).of("", old, new))


def _resolved(documents: Mapping[str, Schema], name: str, schema: Schema) -> tuple[str, Schema]:
    """The schema that a reference means, and the document it is in."""
    passed = 0
    while isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
        file, _, pointer = schema["$ref"].partition("#")
        name = Path(file).stem if file else name
        schema = documents.get(name, True)
        for part in filter(None, pointer.split("/")):
            schema = schema.get(part, True) if isinstance(schema, dict) else True
        passed += 1
        if passed > len(documents) + 100:
            raise OperatorError(f"{name}: a reference in its schema leads to itself")
    return name, schema


def _as_object(schema: Schema) -> dict[str, Any]:
    if isinstance(schema, dict):
        return schema
    # `true` allows everything, `false` nothing
    return {} if schema else {"enum": []}


def _of_values(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """What values of before are none now."""
    if "type" in new and (lost := _types(old) - _types(new)):
        yield f"its type was {_said(old)} and is {_said(new)}: {', '.join(sorted(lost))} is not allowed any more"
    allowed, before = _values(new), _values(old)
    if allowed is not None:
        if before is None:
            yield "only listed values are allowed now, and any were"
        elif lost_values := [one for one in before if one not in allowed]:
            yield f"the values {', '.join(json.dumps(one) for one in lost_values)} are not allowed any more"
    for word in _LOWER_BOUNDS:
        if word in new and (word not in old or old[word] < new[word]):
            yield f"`{word}` was {old.get(word, 'absent')} and is {new[word]}"
    for word in _UPPER_BOUNDS:
        if word in new and (word not in old or old[word] > new[word]):
            yield f"`{word}` was {old.get(word, 'absent')} and is {new[word]}"
    for word in ("pattern", "format", "not", "uniqueItems"):
        if word in new and old.get(word) != new[word]:
            yield f"`{word}` was {json.dumps(old.get(word))} and is {json.dumps(new[word])}"


_ALL_TYPES: Final = frozenset({"null", "boolean", "string", "integer", "number", "object", "array"})


def _types(schema: dict[str, Any]) -> frozenset[str]:
    said = schema.get("type")
    if said is None:
        # a list of values says what types they have
        return _ALL_TYPES if _values(schema) is None else frozenset()
    types = frozenset([said] if isinstance(said, str) else said)
    return types | {"integer"} if "number" in types else types


def _said(schema: dict[str, Any]) -> str:
    said = schema.get("type", "any")
    return said if isinstance(said, str) else " or ".join(said)


def _values(schema: dict[str, Any]) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")
