"""Asking for an approval in the middle of a handler.

An agent author calls `Context.approve`, which raises `ApprovalNeeded` until there is a verdict. The
runtime turns it into a result; the route says who decides.
"""

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from mesh.core.tool_approvals import Wanted


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What people have decided. A rejection is a value, and no error.

    `payload`: what may be done: as it was asked, or as it was `edited`. `by`: whose answer closed
    it; empty if it `expired`.
    """

    approved: bool
    payload: Any
    choice: str = ""
    by: str = ""
    reason: str = ""
    edited: bool = False
    expired: bool = False
    form: Any = None
    approval_id: str = ""


# no `Exception`: an `except Exception` around the call must not take it for a failure of the tool
class ApprovalNeeded(BaseException):
    """Ends the attempt: the task goes out again with the verdict. Don't catch it."""

    def __init__(self, wanted: "Wanted") -> None:
        super().__init__(f"{wanted.name} needs an approval: {wanted.question}")
        self.wanted = wanted
