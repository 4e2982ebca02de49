"""Waiting for a person at the keyboard, inside a running event loop.

Owns what Ctrl-C means meanwhile. The loop's own handler only takes note of it and acts at its next
turn, which does not come while we wait for a key.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, Ctrl-C ends the waiting with `KeyboardInterrupt`, whatever is being typed.

    Main thread only.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except click.Abort as abort:
        raise KeyboardInterrupt from abort
    finally:
        signal.signal(signal.SIGINT, before)
