"""The machine's own clock and randomness."""

import time

from mesh.adapters.system import SystemClock, SystemEntropy


def test_the_clock_shows_milliseconds_since_the_epoch() -> None:
    before = time.time()
    now_ms = SystemClock().now_ms()
    assert int(before * 1000) - 1 <= now_ms <= time.time() * 1000 + 1


def test_tokens_are_fresh_and_have_128_bits_in_hexadecimal() -> None:
    tokens = {SystemEntropy().token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == 32 and int(token, 16) < 2**128 for token in tokens)
