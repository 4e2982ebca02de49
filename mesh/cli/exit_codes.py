"""Exit codes of `mesh`, the same for every command. Scripts may rely on them.

Owns which error gives which code. docs/cli.md explains them to users.
"""

from typing import Final

from mesh.errors import BrokerError, FileDamaged, LogError, MeshError, NotFound, OperatorError, TopicMissing

OK: Final = 0
FAILED: Final = 1  # refused, failed, or not as it should be
USAGE: Final = 2  # the command line, a setting or a file is wrong (click's own code too)
NOT_FOUND: Final = 3
BROKER: Final = 4  # the broker is not there, or does not answer
TIMED_OUT: Final = 5  # what was waited for did not come in time; nothing is known to be wrong
LOG: Final = 6  # the log was written by a newer version
DAMAGED: Final = 7  # the broker's file is damaged and has to be restored
INTERRUPTED: Final = 130


def exit_code_of(error: MeshError | TimeoutError) -> int:
    """The exit code of an error, by its class: that says whose fault it is."""
    match error:
        case TimeoutError():
            return TIMED_OUT
        case FileDamaged():
            return DAMAGED
        case NotFound() | TopicMissing():
            return NOT_FOUND
        case OperatorError():
            return USAGE
        case BrokerError():
            return BROKER
        case LogError():
            return LOG
        case _:
            return FAILED
