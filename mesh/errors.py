"""Every error of the mesh, in one tree, branched by whose fault it is.

    MeshError
    ├── SenderError              what came in is wrong: an event, an answer, a command
    │   ├── MalformedRecord        bytes that are not what their topic holds
    │   └── RecordTooLarge         more bytes than the broker takes
    ├── AgentError               an agent's code or its output is wrong
    │   └── NonRetryable           raised by a handler: trying again would not help
    ├── OperatorError            a file, a setting or a command line is wrong
    │   ├── RouteInvalid           a route file does not hold (names file, line and remedy)
    │   ├── SettingsInvalid        a setting or an option does not hold
    │   ├── PartitionsDiffer       a topic's partition count is not the log's
    │   ├── FileDamaged            the broker's file is damaged, and has to be restored
    │   └── NotFound               no such workflow, approval, event, incident
    ├── BrokerError              the broker, or the way to it
    │   ├── BrokerUnavailable      nothing answers in time; what was under way may have happened
    │   ├── BrokerRefused          it says no: TLS, the login, or a right that is lacking
    │   └── TopicMissing           the topic is not there
    └── LogError                 the log holds what this version can't read
        └── UnknownFormat          a newer record; the owner stops, loudly

A message says what happened, to which id, and what to do next.
"""


class MeshError(Exception):
    """The root of every error that the mesh raises on purpose."""


class SenderError(MeshError):
    """What came in is wrong."""


class MalformedRecord(SenderError):
    """A record's bytes are not what its topic holds."""


class RecordTooLarge(SenderError):
    """A record has more bytes than the broker takes."""


class AgentError(MeshError):
    """An agent's code or its output is wrong."""


class NonRetryable(AgentError):  # authors read `raise NonRetryable("no title")`
    """Raised by a handler: trying the same task again would not help.

    `kind` is a short word that routes and operators can match, e.g. `"no_title"`.
    """

    def __init__(self, message: str, *, kind: str = "non_retryable") -> None:
        super().__init__(message)
        self.kind = kind


class OperatorError(MeshError):
    """A file, a setting or a command line is wrong."""


class RouteInvalid(OperatorError):
    """A route file is invalid.

    The message has one line for each problem: `file:line: what is wrong (how to fix it)`.
    """


class SettingsInvalid(OperatorError):
    """A setting or an option is invalid."""


class PartitionsDiffer(OperatorError):
    """A topic's partition count is not the one the log records."""


class FileDamaged(OperatorError):
    """The broker's file is damaged: trying again does not help, restoring it from a copy does."""


class NotFound(OperatorError):
    """No such workflow, approval, event or incident."""


class BrokerError(MeshError):
    """The broker, or the connection to it, failed."""


class BrokerUnavailable(BrokerError):
    """The broker does not answer in time. The outcome of what was under way is unknown."""


class BrokerRefused(BrokerError):
    """The broker says no to who we are, or to what we may do: trying again would not help."""


class TopicMissing(BrokerError):
    """The topic does not exist."""


class LogError(MeshError):
    """The log holds what this version can't read."""


class UnknownFormat(LogError):
    """A record of a newer format: the owner stops rather than guess."""
