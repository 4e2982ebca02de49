"""Amounts in words: in full, whatever their size, and without the error of floats."""

import pytest

from mesh.core.amounts import as_amounts, as_number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1_234_567, "1234567"),
        (1_234_567.0, "1234567"),
        (1e12, "1000000000000"),
        (123_456_789.12, "123456789.12"),
        (0.1 + 0.2, "0.3"),
        (0.000_000_001, "0.000000001"),
        (-0.5, "-0.5"),
    ],
)
def test_a_number_is_written_in_full(value: float, text: str) -> None:
    assert as_number(value) == text


def test_amounts_are_told_with_their_names() -> None:
    assert as_amounts({"tokens": 1_234_567.0, "usd": 0.3}) == "1234567 tokens, 0.3 usd"
    assert as_amounts({}) == "nothing"
    assert as_amounts({"tokens": 1.0}, time="2h") == "1 tokens, 2h of time"
    assert as_amounts({}, time="2h") == "2h of time"
