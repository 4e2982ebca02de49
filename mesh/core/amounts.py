"""Amounts in words, for messages, findings and transcripts."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

_DECIMALS: Final = 9  # as accounts have them: beyond, it is the error of floats


def as_number(value: float) -> str:
    """The number in full, however large or small: `1234567`, `0.3`. At most nine decimals."""
    return format(Decimal(repr(round(value, _DECIMALS))), "f").removesuffix(".0")


def as_amounts(amounts: Mapping[str, float], *, time: str = "") -> str:
    """A budget's amounts: `1200 tokens, 0.3 usd`.

    With `time`, in the reader's words: `1200 tokens, 2h of time`.
    """
    named = [f"{as_number(amount)} {name}" for name, amount in amounts.items()]
    return ", ".join([*named, f"{time} of time"] if time else named) or "nothing"
