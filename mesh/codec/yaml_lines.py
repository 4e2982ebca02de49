"""YAML 1.2 files to JSON values, with the line of every part for messages.

Owns the reading of what operators write. Only the core schema is read (`on`, `yes` and dates are
strings): no tags, no duplicate keys, and no alias that leads to itself. It must not know what the
documents mean. `route_file` and `approvers_file` call it.
"""

import re
from pathlib import Path
from typing import Any, Final

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mesh.codec.exact_json import is_exact

DocumentPath = tuple[str | int, ...]

# aliases count as often as they are used, so that a small file can't become a huge value
MAX_NODES: Final = 100_000
_TAG: Final = "tag:yaml.org,2002:"
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# YAML 1.2.2, 10.3.2 "Tag Resolution"
_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_ENDLESS: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WRITTEN_TAG: Final = re.compile(r"(?:&\S+\s+)?(!\S*)")
MAX_DIGITS: Final = 400  # Python refuses to read very long numbers


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the YAML itself. `line` counts from 1."""

    line: int
    message: str


class YamlDocument:
    """One document.

    `value` is JSON. `faults` were found while it was read, and leave the rest readable.
    """

    def __init__(self, text: str) -> None:
        """`text`: of the whole stream."""
        self._text = text
        self.value: Any = None
        self.line = 1
        self.faults: list[Fault] = []
        self._lines: dict[DocumentPath, int] = {}
        self._nodes = 0

    def line_of(self, path: DocumentPath) -> int:
        """The line of the part that `path` leads to, or of the nearest part around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, self.line)

    def read(self, root: Node) -> None:
        self.line = root.start_mark.line + 1
        self.value = self._value(root, (), frozenset())

    def _fault(self, node: Node, message: str) -> None:
        self.faults.append(Fault(line=node.start_mark.line + 1, message=message))

    def _value(self, node: Node, path: DocumentPath, above: frozenset[int]) -> Any:
        self._nodes += 1
        # a mapping may have set the line of its key for this part
        self._lines.setdefault(path, node.start_mark.line + 1)
        if self._nodes > MAX_NODES:
            # reported once, and not for every value beyond the bound
            if self._nodes == MAX_NODES + 1:
                self._fault(node, f"more than {MAX_NODES} values (do aliases multiply?)")
            return None
        if id(node) in above:
            self._fault(node, "an alias leads into itself (write the part out)")
            return None
        if self._is_tagged(node):
            return None
        within = above | {id(node)}
        if isinstance(node, MappingNode):
            return self._mapping(node, path, within)
        if isinstance(node, SequenceNode):
            return [self._value(item, (*path, place), within) for place, item in enumerate(node.value)]
        found = _scalar(node)
        if isinstance(found, _Unkept):
            self._fault(node, found.message)
            return None
        return found

    def _is_tagged(self, node: Node) -> bool:
        """Whether a tag is written in the text. The composer gives untagged nodes a tag as well."""
        tag = _WRITTEN_TAG.match(self._text, node.start_mark.index)
        if tag is not None:
            self._fault(node, f"the tag {tag[1]} means nothing here (remove it)")
        return tag is not None

    def _mapping(self, node: MappingNode, path: DocumentPath, within: frozenset[int]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._fault(key_node, "a key must be a string")
                continue
            if self._is_tagged(key_node):
                continue
            key = str(key_node.value)
            if key_node.tag == _TAG + "merge":
                self._fault(key_node, "merge keys (<<) are not part of YAML 1.2 (write the keys out)")
            elif key in found:
                first = self._lines[(*path, key)]
                self._fault(key_node, f"the key {key} is given twice, first in line {first} (keep one)")
            else:
                # people look for a block at its key
                if not isinstance(value_node, ScalarNode):
                    self._lines[(*path, key)] = key_node.start_mark.line + 1
                found[key] = self._value(value_node, (*path, key), within)
        return found


_FOLD: Final = "\a"


def _scalar(node: Node) -> Any:
    text, style = str(node.value), getattr(node, "style", None)
    if style == ">":
        # ruamel's scanner marks each place where it folded lines, which YAML itself can't contain
        text = text.replace(_FOLD, "")
    return _resolved(text) if style is None else text


class _Unkept:
    """A number that would become another (`exact_json`)."""

    def __init__(self, why: str) -> None:
        self.message = f"{why} (write it as a string)"


def _resolved(text: str) -> Any:
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if len(text) > MAX_DIGITS:
        return text
    if _INT.fullmatch(text):
        found = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        return found if is_exact(str(found)) else _Unkept("the number does not fit in 64 bits")
    if _ENDLESS.fullmatch(text):
        return _Unkept(f"{float(text.replace('.', ''))} is not a JSON number")
    if _FLOAT.fullmatch(text):
        return float(text) if is_exact(text.lstrip("+")) else _Unkept(f"the number {text} can't be kept exactly")
    return text


def read_yaml(path: Path) -> tuple[list[YamlDocument], list[Fault]]:
    """The file's documents, and what stopped the reading.

    Raises `OSError` if there is no such file.
    """
    try:
        # some editors put a byte order mark in front
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return [], [Fault(line=1, message=f"the file is not UTF-8: {error.reason} at byte {error.start}")]
    return read_yaml_text(text)


def read_yaml_text(text: str) -> tuple[list[YamlDocument], list[Fault]]:
    """Read a file's text, as `read_yaml` reads a file."""
    documents: list[YamlDocument] = []
    try:
        for root in YAML(typ="rt", pure=True).compose_all(text):
            document = YamlDocument(text)
            document.read(root)
            documents.append(document)
    except MarkedYAMLError as error:
        return documents, [_syntax_fault(error, text)]
    except (YAMLError, RecursionError, ValueError) as error:
        what = "nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())
        return documents, [Fault(line=1, message=f"the file is not YAML: {what}")]
    return documents, []


def _syntax_fault(error: MarkedYAMLError, text: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    lines = text.splitlines()
    near = "\n".join(lines[max(0, line - 2) : line])
    hint = " (put a value with ${{ }} in quotes)" if "${{" in near else ""
    return Fault(
        line=min(line, max(1, len(lines))), message=f"the file is not YAML: {error.problem or error.context}{hint}"
    )
