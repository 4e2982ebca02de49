"""The grammar of expressions: CEL text to a tree, with columns for messages.

Owns the parser and the tree. It takes CEL's grammar (cel-spec, doc/langdef.md) without message
literals and optional fields, and knows which functions there are, so that a mistake is found when a
route is loaded and not when an event comes. It must not evaluate anything: `closures` does.
`compiler` is its only caller, besides that.
"""

from difflib import get_close_matches
from typing import Any, Final, Literal

import msgspec

from mesh.routes.expressions.tokens import Token, shown, tokenize, wrong

# bounds the depth of a chain, and with it the interpreter's stack when it is evaluated
MAX_TOKENS: Final = 800
MAX_NESTING: Final = 40  # of brackets


class _Node(msgspec.Struct, frozen=True, kw_only=True):
    start: int  # in the source, from 0
    end: int


class Constant(_Node, frozen=True, kw_only=True):
    """A literal. `foreign`: bytes or uint, which JSON does not have."""

    value: Any
    foreign: bool = False


class Name(_Node, frozen=True, kw_only=True):
    name: str


class Select(_Node, frozen=True, kw_only=True):
    target: "Node"
    field: str


class Index(_Node, frozen=True, kw_only=True):
    target: "Node"
    index: "Node"


class Has(_Node, frozen=True, kw_only=True):
    target: "Node"
    field: str


class Call(_Node, frozen=True, kw_only=True):
    function: str
    target: "Node | None"
    args: tuple["Node", ...]
    name_start: int


class ListOf(_Node, frozen=True, kw_only=True):
    items: tuple["Node", ...]


class MapOf(_Node, frozen=True, kw_only=True):
    entries: tuple[tuple["Node", "Node"], ...]


class Not(_Node, frozen=True, kw_only=True):
    operand: "Node"


class Negate(_Node, frozen=True, kw_only=True):
    operand: "Node"


class Binary(_Node, frozen=True, kw_only=True):
    op: Literal["==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%"]
    left: "Node"
    right: "Node"


class Logic(_Node, frozen=True, kw_only=True):
    op: Literal["&&", "||"]
    operands: tuple["Node", ...]


class Conditional(_Node, frozen=True, kw_only=True):
    test: "Node"
    then: "Node"
    otherwise: "Node"


Node = Constant | Name | Select | Index | Has | Call | ListOf | MapOf | Not | Negate | Binary | Logic | Conditional

# --- words ----------------------------------------------------------------------------------------

MACROS: Final = {"all": (2,), "exists": (2,), "exists_one": (2,), "filter": (2,), "map": (2, 3)}
FUNCTIONS: Final = frozenset(
    {"has", "size", "int", "uint", "double", "bool", "string", "bytes", "timestamp", "duration", "type", "dyn"}
)
METHODS: Final[dict[str, tuple[int, ...]]] = {
    **MACROS,
    "size": (0,),
    "startsWith": (1,),
    "endsWith": (1,),
    "contains": (1,),
    "matches": (1,),
    **dict.fromkeys(
        (
            "getFullYear",
            "getMonth",
            "getDate",
            "getDayOfMonth",
            "getDayOfWeek",
            "getDayOfYear",
            "getHours",
            "getMinutes",
            "getSeconds",
            "getMilliseconds",
        ),
        (0, 1),
    ),
}
RESERVED: Final = frozenset(
    (
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
    )
) | {"return", "var", "void", "while"}

# --- grammar --------------------------------------------------------------------------------------

_LEVELS: Final[tuple[frozenset[str], ...]] = (
    frozenset({"==", "!=", "<", "<=", ">", ">=", "in"}),
    frozenset({"+", "-"}),
    frozenset({"*", "/", "%"}),
)


def parse(source: str) -> Node:
    """The tree of one whole expression. Raises `ExpressionSyntaxError`."""
    tokens: list[Token] = []
    for token in tokenize(source):
        tokens.append(token)
        if len(tokens) > MAX_TOKENS:
            raise wrong(f"the expression is too long (at most {MAX_TOKENS} words and signs)", token.start)
    if len(tokens) == 1:
        raise wrong("the expression is empty", 0)
    return _Parser(tokens).whole()


class _Parser:
    """Recursive descent, one method for each level of CEL's grammar."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.tokens[self.at]
        self.at += 1
        return token

    def sees(self, *texts: str) -> bool:
        token = self.next
        return token.kind in ("op", "keyword") and token.text in texts

    def expect(self, text: str, after: str) -> Token:
        if not self.sees(text):
            raise wrong(f"expected '{text}' {after}, found {shown(self.next)}", self.next.start)
        return self.take()

    def whole(self) -> Node:
        node = self.expression()
        if self.next.kind == "end":
            return node
        fix = "write && for and, || for or, ! for not" if self.next.text in ("and", "or", "not") else ""
        raise wrong(f"unexpected {shown(self.next)} after the expression", self.next.start, fix)

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise wrong(f"the expression is nested too deep (at most {MAX_NESTING} levels)", self.next.start)
        node = self.logic("||")
        if self.sees("?"):
            self.take()
            then = self.logic("||")
            self.expect(":", "between the two values of '?'")
            otherwise = self.expression()
            node = Conditional(test=node, then=then, otherwise=otherwise, start=node.start, end=otherwise.end)
        self.depth -= 1
        return node

    def logic(self, op: Literal["||", "&&"]) -> Node:
        operands = [self.logic("&&") if op == "||" else self.binary(0)]
        while self.sees(op):
            self.take()
            operands.append(self.logic("&&") if op == "||" else self.binary(0))
        if len(operands) == 1:
            return operands[0]
        # one node for a chain, so that its depth does not grow with its length
        return Logic(op=op, operands=tuple(operands), start=operands[0].start, end=operands[-1].end)

    def binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self.unary()
        node = self.binary(level + 1)
        while self.sees(*_LEVELS[level]):
            op: Any = self.take().text
            right = self.binary(level + 1)
            node = Binary(op=op, left=node, right=right, start=node.start, end=right.end)
        return node

    def unary(self) -> Node:
        """`!` and `-` may be repeated but not mixed."""
        if not self.sees("!", "-"):
            return self.member()
        first = self.take()
        start = first.start
        signs = 1
        while self.sees(first.text):
            self.take()
            signs += 1
        node = self.signed_number() if first.text == "!" and self.sees("-") else None
        if node is None:
            folded = first.text == "-" and self.next.kind in ("int", "float")
            node = self.member(negative=folded)
            signs -= folded  # the sign belongs to the number, or the least one could not be written
        if signs % 2:  # pairs cancel, as in cel-go
            node = (Not if first.text == "!" else Negate)(operand=node, start=start, end=node.end)
        return node

    def signed_number(self) -> Node | None:
        """`-1` after a `!`: the sign is the number's, since signs do not mix."""
        if self.tokens[self.at + 1].kind not in ("int", "float"):
            return None
        self.take()
        return self.member(negative=True)

    def member(self, *, negative: bool = False) -> Node:
        node = self.primary(negative=negative)
        while True:
            if self.sees("."):
                self.take()
                node = self.selected(node)
            elif self.sees("["):
                self.take()
                index = self.expression()
                node = Index(target=node, index=index, start=node.start, end=self.expect("]", "to close the index").end)
            else:
                return node

    def selected(self, target: Node) -> Node:
        token = self.take()
        if token.kind == "keyword":
            raise wrong(f"'{token.text}' is a reserved word", token.start, f"write ['{token.text}'] without the dot")
        if token.kind != "name":
            raise wrong(f"expected a name after '.', found {shown(token)}", token.start)
        if self.sees("("):
            return self.call(target, token)
        return Select(target=target, field=token.text, start=target.start, end=token.end)

    def primary(self, *, negative: bool) -> Node:
        token = self.take()
        match token.kind:
            case "int" | "uint" | "float" | "string" | "bytes" | "keyword":
                return self.constant(token, negative=negative)
            case "name":
                return self.call(None, token) if self.sees("(") else self.name(token)
            case "op" if token.text == "(":
                node = self.expression()
                self.expect(")", "to close '('")
                return node
            case "op" if token.text == "[":
                items, end = self.items("]")
                return ListOf(items=items, start=token.start, end=end)
            case "op" if token.text == "{":
                return self.map(token)
            case _:
                raise wrong(f"expected a value, found {shown(token)}", token.start)

    def name(self, token: Token) -> Node:
        if token.text in RESERVED:
            raise wrong(f"'{token.text}' is a reserved word", token.start)
        if self.sees("{"):
            raise wrong("message literals are not supported", self.next.start, "a map is written {'key': value}")
        return Name(name=token.text, start=token.start, end=token.end)

    def constant(self, token: Token, *, negative: bool) -> Node:
        value = token.value
        match token.kind:
            case "keyword" if token.text == "in":
                raise wrong("expected a value before 'in'", token.start)
            case "keyword":
                value = {"true": True, "false": False, "null": None}[token.text]
            case "int" | "float" | "uint":
                value = -value if negative else value
                if token.kind != "float" and not -(2**63) <= value < (2**64 if token.kind == "uint" else 2**63):
                    raise wrong(f"the number {token.text} does not fit in 64 bits", token.start)
        foreign = token.kind in ("bytes", "uint")
        return Constant(value=value, foreign=foreign, start=token.start - negative, end=token.end)

    def items(self, closing: str) -> tuple[tuple[Node, ...], int]:
        items: list[Node] = []
        while not self.sees(closing):
            items.append(self.expression())
            if not self.sees(","):
                break
            comma = self.take()
            # CEL's lists and maps may end in a comma, and arguments may not
            if closing == ")" and self.sees(closing):
                raise wrong("expected a value after ','", comma.start)
        return tuple(items), self.expect(closing, "to close the list").end

    def map(self, opening: Token) -> Node:
        entries: list[tuple[Node, Node]] = []
        while not self.sees("}"):
            key = self.expression()
            self.expect(":", "after the key of a map")
            entries.append((key, self.expression()))
            if not self.sees(","):
                break
            self.take()
        return MapOf(entries=tuple(entries), start=opening.start, end=self.expect("}", "to close the map").end)

    def call(self, target: Node | None, name: Token) -> Node:
        start = name.start if target is None else target.start
        self.take()
        args, end = self.items(")")
        node = Call(function=name.text, target=target, args=args, name_start=name.start, start=start, end=end)
        return _checked(node)


def _checked(call: Call) -> Node:
    """The call, if a function takes this number of arguments; `has` as its own node."""
    function, at = call.function, call.name_start
    known = FUNCTIONS if call.target is None else METHODS.keys()
    if function not in known:
        near = get_close_matches(function, known, 1)
        fix = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(known))}"
        other = METHODS.keys() if call.target is None else FUNCTIONS
        if function in other:
            fix = f"write value.{function}(...)" if call.target is None else f"write {function}(value)"
        raise wrong(f"unknown function {function}()", at, fix)
    takes = (1,) if call.target is None else METHODS[function]
    if len(call.args) not in takes:
        wanted = " or ".join(str(count) for count in takes)
        raise wrong(f"{function}() takes {wanted} argument{'' if wanted == '1' else 's'}, not {len(call.args)}", at)
    if call.target is not None and function in MACROS and not isinstance(call.args[0], Name):
        raise wrong(
            f"the first argument of {function}() must name a variable", call.args[0].start, f"{function}(item, ...)"
        )
    if function != "has":
        return call
    path = call.args[0]
    if not isinstance(path, Select):
        raise wrong("has() takes a path that ends in a dot and a name", path.start, "has(event.data.label)")
    return Has(target=path.target, field=path.field, start=call.start, end=call.end)
