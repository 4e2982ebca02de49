"""Trying again later, at a time that the agent knows: raised by a handler."""

from mesh.errors import AgentError


class Retry(AgentError):
    """Raised by a handler: the attempt has failed, and another one makes no sense before `after_s`.

    It counts as any failure does. The wait is at least the route's backoff, and at most its longest
    (`max_backoff`). `kind` is a short word that routes and operators can match.
    """

    def __init__(self, message: str = "", *, after_s: float, kind: str = "retry") -> None:
        super().__init__(message or f"try again in {after_s:g} s")
        self.after_s = max(0.0, after_s)
        self.kind = kind
