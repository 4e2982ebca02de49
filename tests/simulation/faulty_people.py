"""Faults put into who may answer: signatures, delegations, absences and working hours.

The judge must notice each by records alone (`mesh.testing.promises.electorate`, `working_hours`).
"""

from typing import Any

import pytest
from faults import PLANS, fault, with_an_office
from msgspec.structs import replace

from mesh.codec import signed_answers
from mesh.core.approver_keys import KnownKey
from mesh.core.calendars import Calendar
from mesh.core.decide.settle import approval as settle_approval
from mesh.core.decide.settle import delegates as settle_delegates
from mesh.core.decide.settle import personal as settle_personal
from mesh.core.decide.settle import signatures as settle_signatures
from mesh.core.decide.settle import words as settle_words
from mesh.core.delegations import Delegation, KnownDelegation, Mandate
from mesh.core.evolve import voting as evolve_voting
from mesh.core.inputs import CheckedAnswer
from mesh.core.people import people_of
from mesh.core.state import Directory
from mesh.services.router.people import PeopleFollower

# Signatures ---------------------------------------------------------------------------------------


@fault
def a_key_that_was_revoked_signs_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KnownKey, "is_valid", lambda key, at_ms: key.from_ms <= at_ms)


@fault
def a_key_signs_before_it_takes_effect(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KnownKey, "is_valid", lambda key, at_ms: key.until_ms is None or at_ms < key.until_ms)


@fault
def any_signature_holds(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(signed_answers, "is_signed", lambda *_: True)


@fault
def anybodys_key_signs_for_a_person(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(signed_answers, "_check_person", lambda *_: None)


@fault
def a_signature_for_another_mesh_holds(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(signed_answers, "of_this_mesh", lambda *_: None)


@fault
def a_gateway_may_speak_for_everybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(signed_answers, "_speaks_for", lambda *_: True)


@fault
def an_answer_without_a_signature_counts_where_one_is_asked_for(patch: pytest.MonkeyPatch) -> None:
    honest = settle_signatures.why_unproven

    def why(given: Any, level: Any) -> Any:
        return honest(given, level) if isinstance(given, CheckedAnswer) else None

    for module in (settle_signatures, settle_approval, settle_personal):
        patch.setattr(module, "why_unproven", why)


# Delegations --------------------------------------------------------------------------------------


@fault
def a_delegation_never_runs_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KnownDelegation, "is_in_force", lambda one, at: one.from_ms <= at and one.delegation.start_ms <= at)


@fault
def a_delegation_counts_before_it_starts(patch: pytest.MonkeyPatch) -> None:
    honest = KnownDelegation.is_under_way
    patch.setattr(KnownDelegation, "is_in_force", lambda one, at: one.from_ms <= at and honest(one, at))


@fault
def a_delegation_for_one_route_counts_in_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Delegation, "covers", lambda *_: True)


@fault
def a_delegation_of_a_role_covers_all_roles(patch: pytest.MonkeyPatch) -> None:
    honest = settle_delegates._mandate

    def mandate(draft: Any, known: Any, word: Any) -> Mandate:
        whole = replace(known, delegation=replace(known.delegation, roles=()))
        return replace(honest(draft, whole, word), by_roles=bool(known.delegation.roles))

    patch.setattr(settle_delegates, "_mandate", mandate)


@fault
def what_was_delegated_to_one_counts_for_all(patch: pytest.MonkeyPatch) -> None:
    def between(draft: Any, word: Any) -> Any:
        return (one for one in draft.directory.delegations if one.delegation.giver == word.on_behalf)

    patch.setattr(settle_delegates, "_between", between)


@fault
def a_person_takes_part_as_often_as_they_like(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settle_words, "why_represented", lambda *_: None)
    kept = lambda votes, vote: (*(one for one in votes if one.by != vote.by), vote)  # noqa: E731
    patch.setattr(evolve_voting, "with_vote", kept)


# Absences and working hours -----------------------------------------------------------------------


@fault
def who_is_away_may_not_answer(patch: pytest.MonkeyPatch) -> None:
    honest = PeopleFollower.directory_at

    def directory_at(self: PeopleFollower, directory: Directory, at_ms: int) -> Directory:
        found, away = honest(self, directory, at_ms), self.known.delegations.absent(at_ms)
        if found.people is None or not away:
            return found
        persons = [replace(one, roles=frozenset()) if one.id in away else one for one in found.people.persons.values()]
        people = people_of(persons, digest=found.people.digest)
        return replace(found, people=people, roles=people.roles)

    patch.setattr(PeopleFollower, "directory_at", directory_at)


@fault
def working_hours_run_on_at_night(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Calendar, "after_working", lambda _, from_ms, working_ms: from_ms + working_ms)


@fault
def a_working_day_may_be_the_day_of_the_question(patch: pytest.MonkeyPatch) -> None:
    honest = Calendar.after_days
    patch.setattr(Calendar, "after_days", lambda calendar, from_ms, days: honest(calendar, from_ms, days - 1))


@fault
def the_newest_calendar_counts_whenever_it_was_asked(patch: pytest.MonkeyPatch) -> None:
    honest = PeopleFollower.calendars_at
    patch.setattr(PeopleFollower, "calendars_at", lambda people, _: honest(people, 2**53))


for _fault in [one for one in globals().values() if getattr(one, "__module__", "") == __name__]:
    PLANS[_fault.__name__] = with_an_office
