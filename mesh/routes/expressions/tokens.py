"""The words of expressions: CEL text to tokens, with columns for messages.

Owns the lexer and `ExpressionSyntaxError`. `syntax` makes a tree of the tokens; templates use them
to find where an expression ends.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

KEYWORDS: Final = frozenset({"true", "false", "null", "in"})


class ExpressionSyntaxError(Exception):
    """An expression does not hold.

    `column` counts characters from 1 in the text it was compiled from.

    `message` says what is wrong, `fix` what to write instead; `path` leads to that text inside a
    template of dicts and lists, `text` is the string that holds it.
    """

    def __init__(
        self, message: str, column: int, *, fix: str = "", path: tuple[str | int, ...] = (), text: str = ""
    ) -> None:
        super().__init__(message + (f" ({fix})" if fix else ""))
        self.message = message
        self.column = column
        self.fix = fix
        self.path = path
        self.text = text


Kind = Literal["int", "uint", "float", "string", "bytes", "name", "keyword", "op", "end"]


class Token(NamedTuple):
    kind: Kind
    text: str
    start: int
    end: int
    value: Any = None


# in this order: a fraction begins like a whole number, and a string's prefix like a name
_TOKEN: Final = re.compile(
    r"""(?P<space>(?:[ \t\r\n\f]+|//[^\r\n]*)+)
    |(?P<float>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
    |(?P<int>(?:0x[0-9a-fA-F]+|[0-9]+)(?P<unsigned>[uU]?))
    |(?P<string>(?P<prefix>[rR][bB]|[bB][rR]|[rRbB]|)(?P<quote>\"\"\"|'''|\"|'))
    |(?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
    |(?P<op>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE,
)
_ESCAPE: Final = re.compile(
    r"\\(?:(?P<plain>[abfnrtv\\?\"'`])|[xX](?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|(?P<o>[0-3][0-7]{2}))"
)
_PLAIN: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "?": "?",
    '"': '"',
    "'": "'",
    "`": "`",
}
_MISTAKES: Final = {
    "=": "to compare write ==",
    "&": "for 'and' write &&",
    "|": "for 'or' write ||",
    "$": "expressions inside expressions take no ${{ }}",
    "`": "strings go in ' or \"",
    ";": "an expression is one value",
}


def wrong(message: str, start: int, fix: str = "") -> ExpressionSyntaxError:
    """The error for what is at `start`, counted from 0."""
    return ExpressionSyntaxError(message, start + 1, fix=fix)


def tokenize(source: str, start: int = 0) -> Iterator[Token]:
    """The tokens from `start` on, closed by one of kind `end`.

    Raises `ExpressionSyntaxError` where it finds no token.
    """
    at = start
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None:
            raise wrong(f"unexpected {source[at]!r}", at, _MISTAKES.get(source[at], ""))
        token = _token(source, found)
        at = found.end() if token is None else token.end
        if token is not None:
            yield token
    yield Token("end", "", len(source), len(source))


def _token(source: str, found: re.Match[str]) -> Token | None:
    start, end, text = found.start(), found.end(), found.group()
    match found.lastgroup:
        case "space":
            return None
        case "float":
            value = float(text)
            if value == float("inf"):
                raise wrong(f"the number {text} is too large", start)
            return Token("float", text, start, end, value)
        case "int":
            unsigned = bool(found["unsigned"])
            return Token("uint" if unsigned else "int", text, start, end, _whole_number(text.rstrip("uU"), start))
        case "string":
            return _string(source, found)
        case "name":
            return Token("keyword" if text in KEYWORDS else "name", text, start, end)
        case _:
            return Token("op", text, start, end)


def _whole_number(text: str, start: int) -> int:
    if len(text) > 20:  # noqa: PLR2004 - more digits than 64 bits have; Python refuses to read very long ones
        raise wrong(f"the number {text[:20]}... does not fit in 64 bits", start)
    return int(text, 16) if text.startswith("0x") else int(text)


def _string(source: str, found: re.Match[str]) -> Token:
    start, quote, prefix = found.start(), found["quote"], found["prefix"].lower()
    at = body = found.end()
    while not source.startswith(quote, at):
        if at >= len(source) or (len(quote) == 1 and source[at] in "\r\n"):
            raise wrong(f"the string that opens here is not closed by {quote}", start)
        at += 2 if source[at] == "\\" and "r" not in prefix else 1
    raw = source[body:at]
    binary = "b" in prefix
    text = raw if "r" in prefix else _unescape(raw, body, binary=binary)
    value = text.encode("utf-8", "surrogateescape") if binary else text
    return Token("bytes" if binary else "string", source[start : at + len(quote)], start, at + len(quote), value)


def _unescape(raw: str, start: int, *, binary: bool) -> str:
    parts: list[str] = []
    at = 0
    while (slash := raw.find("\\", at)) >= 0:
        found = _ESCAPE.match(raw, slash)
        if found is None:
            raise wrong(f"unknown escape {raw[slash : slash + 2]}", start + slash, "write \\\\ for a backslash")
        parts += raw[at:slash], _escaped(found, start + slash, binary=binary)
        at = found.end()
    parts.append(raw[at:])
    return "".join(parts)


def _escaped(found: re.Match[str], start: int, *, binary: bool) -> str:
    if found["plain"]:
        return _PLAIN[found["plain"]]
    code = int(found["o"], 8) if found["o"] else int(found["x"] or found["u"] or found["U"], 16)
    if binary and code >= 0x80 and not (found["u"] or found["U"]):  # noqa: PLR2004 - the end of ASCII
        # a byte, not the character of that number: as a surrogate until the text is encoded
        return chr(0xDC00 + code)
    if 0xD800 <= code < 0xE000 or code > 0x10FFFF:  # noqa: PLR2004 - Unicode's surrogates and end
        raise wrong(f"{found.group()} is not a character", start)
    return chr(code)


def shown(token: Token) -> str:
    return "the end" if token.kind == "end" else f"'{token.text}'"
