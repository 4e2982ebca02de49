"""What a URL may say: the parameters of each page.

Owns their checks. An unknown parameter is an error that names it, so a misspelt filter never shows
everything.
"""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Final
from urllib.parse import parse_qsl, urlencode

from mesh.errors import OperatorError

MOST_BYTES: Final = 8_192
_SPAN: Final = re.compile(r"(\d{1,6})(s|m|h|d)")
_UNITS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class BadParameter(OperatorError):
    """A parameter that the page does not take, or a value that it can't have."""


class Parameters:
    """The parameters of one request.

    `names`: those that the page takes; the ones in `repeatable` may come several times.
    """

    def __init__(self, query: bytes, names: Sequence[str], repeatable: Sequence[str] = ()) -> None:
        try:
            pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
        except ValueError as error:
            raise BadParameter("the query of this URL can't be read") from error
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            if name not in names:
                raise BadParameter(f"this page has no parameter {name!r}; {_there_are(name, names)}")
            if name in self._values and name not in repeatable:
                raise BadParameter(f"the parameter {name!r} comes twice; leave one out")
            # an empty field of a form is a filter that nobody gave
            if value:
                self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str:
        return self._values.get(name, [""])[0]

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def needed(self, name: str) -> str:
        if not self[name]:
            raise BadParameter(f"this page needs the parameter {name!r}")
        return self[name]

    def among(self, name: str, choices: Sequence[str]) -> str:
        """One of these, or empty."""
        found = self[name]
        if found and found not in choices:
            raise BadParameter(f"{name} can't be {found!r}; it is one of {', '.join(choices)}")
        return found

    def span_ms(self, name: str) -> int | None:
        """A time such as `30m`, `24h` or `7d`; None: not given."""
        found = self[name]
        return span_ms_of(name, found) if found else None

    def chosen(self) -> dict[str, list[str]]:
        """All that were given."""
        return dict(self._values)

    def with_(self, **changes: str | None) -> str:
        """The query with these set; None: left out. Other pages of a list are left out too."""
        values = {name: list(found) for name, found in self._values.items() if name != "after"}
        for name, value in changes.items():
            values.pop(name, None)
            if value:
                values[name] = [value]
        return query_of(values)


def span_ms_of(name: str, found: str) -> int:
    """How long a text such as `30m`, `24h` or `7d` means. Raises `BadParameter`."""
    match = _SPAN.fullmatch(found)
    if match is None:
        raise BadParameter(f"{name} can't be {found!r}; write a time such as 30m, 24h or 7d")
    return int(match[1]) * _UNITS[match[2]]


def query_of(values: Mapping[str, Sequence[str]]) -> str:
    pairs = [(name, value) for name, found in values.items() for value in found]
    return f"?{urlencode(pairs)}" if pairs else ""


def _there_are(name: str, names: Sequence[str]) -> str:
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"there are {', '.join(names)}" if names else "it takes none"
