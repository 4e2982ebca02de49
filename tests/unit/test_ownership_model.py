"""The log is the lock: no interleaving breaks it.

Crashes, take-overs, late and double landings. The model also finds each fault that the design
forbids.
"""

from collections.abc import Sequence

import pytest
from ownership_model import Bounds, Faults, explore, outcomes

from mesh.core.events import Decision, LogRecord, OwnerChanged
from mesh.core.ownership import Epochs, Gap, Lost, Ownership

FAULTS_AT = Bounds(routers=2, inputs=2, in_flight=2, takeovers=3)
FAULT_LIMIT = 400_000  # states; the faults show within a fraction of it


@pytest.mark.deep
def test_no_interleaving_breaks_the_lock() -> None:
    problem, states = explore(Bounds(routers=2, inputs=2, in_flight=1, takeovers=2))
    assert problem == ""
    assert states > 80_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(routers=2, inputs=2, in_flight=2, takeovers=2),
        Bounds(routers=2, inputs=1, in_flight=1, takeovers=3),
    ],
    ids=str,
)
def test_no_interleaving_of_a_wider_case_breaks_the_lock(bounds: Bounds) -> None:
    problem, states = explore(bounds)
    assert problem == ""
    assert states > 100_000


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(routers=2, inputs=1, in_flight=1, takeovers=2),
        Bounds(routers=1, inputs=2, in_flight=2, takeovers=2),
        Bounds(routers=1, inputs=1, in_flight=1, takeovers=3),
    ],
    ids=str,
)
def test_crashes_that_make_room_for_nobody_lead_to_nothing_else(bounds: Bounds) -> None:
    assert outcomes(bounds) == outcomes(bounds._replace(every_crash=True))


# Faults: mutants of the real code, and of what the service around it does -------------------------


class EveryDecisionCounts(Epochs):
    """No epoch check."""

    def observe(self, record: LogRecord) -> bool:
        return super().observe(record) or isinstance(record, Decision)


class EveryOccurrenceCounts(Epochs):
    """A token takes over again when it lands again."""

    def observe(self, record: LogRecord) -> bool:
        if isinstance(record, OwnerChanged):
            self.current = record.token
        return super().observe(record)


class GapIgnored(Ownership):
    """It does not look at what is in a gap."""

    def gap_read(self, gap: Gap, records: Sequence[LogRecord]) -> Lost | None:
        return None


class OffsetIgnored(Ownership):
    """An acknowledgement is taken for the expected one, whatever its offset."""

    def acknowledged(self, spans: Sequence[tuple[int, int]]) -> list[Gap] | Lost:
        return super().acknowledged([(self.expected, count) for _, count in spans])


class CatchesUpBlindly(Ownership):
    """It owns although its token is not in force at its own record.

    An older landing of it has been overtaken.
    """

    def caught_up(self, epochs: Epochs) -> Lost | None:
        return super().caught_up(Epochs(epochs.seen(), self.token))


@pytest.mark.parametrize(
    ("faults", "found"),
    [
        (Faults(epochs=EveryDecisionCounts), "an input has two effective decisions"),
        (Faults(epochs=EveryOccurrenceCounts), "a decision rests on a state that the log does not have there"),
        (Faults(ownership=GapIgnored), "an effect left for a decision that the log does not have"),
        (Faults(ownership=OffsetIgnored), "an effect left for a decision that the log does not have"),
        (Faults(ownership=CatchesUpBlindly), "an effect left for a decision that the log does not have"),
        (Faults(restarts_mark=True), "an effect is lost"),
        (Faults(skips_failed_send=True), "an effect is lost"),
        (Faults(skips_input=True), "an input is lost"),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)
def test_each_fault_that_the_design_forbids_is_found(faults: Faults, found: str) -> None:
    problem, states = explore(FAULTS_AT, faults, limit=FAULT_LIMIT)
    assert problem.startswith(found), (problem, states)
