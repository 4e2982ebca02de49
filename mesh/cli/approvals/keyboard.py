"""Wait for a person at the keyboard, inside a running event loop.

Owns what Ctrl-C means meanwhile. The loop's own handler only notes the signal and acts at the
loop's next turn, which does not come while we wait for a key.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def interruptible() -> Iterator[None]:
    """While inside, Ctrl-C ends the waiting with `KeyboardInterrupt`, whatever is being typed.

    Only for the main thread.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except click.Abort as abort:
        raise KeyboardInterrupt from abort
    finally:
        signal.signal(signal.SIGINT, before)
