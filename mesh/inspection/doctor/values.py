"""What an examination of the mesh consists of, as values. Owns no judgement."""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

Severity = Literal["error", "warning", "note"]
Outcome = Literal["good", "found", "failed", "late", "skipped"]

WORST_FIRST: Final[tuple[Severity, ...]] = ("error", "warning", "note")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it should be.

    `severity` error: something does not work, or will be lost. Warning: it may come to that. Note:
    good to know. `next_step`: one thing to do, mostly a command.
    """

    severity: Severity
    what: str
    why: str
    next_step: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found, and in `said` what it saw, in a few words for people."""

    said: str = ""
    findings: tuple[Finding, ...] = ()


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """A check that was made, or could not be.

    `outcome` good: it has no finding, but for notes. Late: it did not end in its time. Skipped:
    what it needs is not there, which is another check's finding.
    """

    check: str
    outcome: Outcome
    took_ms: int
    said: str = ""
    findings: tuple[Finding, ...] = ()


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    broker: str
    at_ms: int
    checks: tuple[Examined, ...]

    @property
    def worst(self) -> Severity | None:
        """The worst severity of all findings; None: there is no finding."""
        found = {finding.severity for check in self.checks for finding in check.findings}
        return next((severity for severity in WORST_FIRST if severity in found), None)


def found(findings: Iterable[Finding], said: str = "") -> Result:
    """The result of a check, the worst first."""
    return Result(said=said, findings=tuple(sorted(findings, key=lambda one: WORST_FIRST.index(one.severity))))
