"""An approval's terms of version 2: who may answer, how many must, who can't, and what they say.

`mesh.routes.approvals` calls this for an approval that has one of the keys which version 1 lacks.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, cast, get_args

from mesh.core.approvals import MOST_SEATS, Reasons
from mesh.core.route import EditsAsked, OnExpiry, OnNobody, SeatsAsked, Template, VotingTerms
from mesh.core.signing import Level
from mesh.routes.control_flow import EMPTY
from mesh.routes.expressions.compiler import CompiledTemplate
from mesh.routes.problems import Part, is_whole, join, near, shown
from mesh.routes.questions import ask_back, asks_requester
from mesh.routes.reminding import reminding
from mesh.routes.stages import below, claiming, extending, named_people, stages, who_answers
from mesh.routes.step_keys import EDIT, EXCLUDED, FIRST_VERSION, SEATS

_REQUESTER_HINT: Final = "say who it is: requester: ${{ event.data.NAME }}"


def is_voted(value: Any) -> bool:
    """Whether an approval, as written, has more than version 1 knows."""
    if not isinstance(value, dict):
        return False
    # a role that has to be rendered needs terms, which version 1 does not have
    is_more = bool(value.keys() - FIRST_VERSION) or "${{" in str(value.get("role", ""))
    return is_more or isinstance(value.get("deadline"), dict)


def voters(value: Any) -> int | None:
    """How many must agree, as written; None if only the people there are say how many."""
    quorum = value.get("quorum", 1) if isinstance(value, dict) else 1
    if isinstance(quorum, list):
        needs = [group.get("need", 1) if isinstance(group, dict) else 1 for group in quorum]
        return sum(need for need in needs if is_whole(need))
    return quorum if is_whole(quorum) else None


def voting(part: Part, steps: Mapping[str, Part], requester: CompiledTemplate | None) -> VotingTerms:
    """The terms. `requester`: the route's own."""
    own = part.text_template("requester", "such as ${{ event.data.clerk }}")
    excluded = _Excluded(part, steps)
    has_requester = own is not None or requester is not None
    if excluded.requester and not has_requester and "requester" not in part.value:
        part.problem("not", "not: requester needs a requester", _REQUESTER_HINT)
    back = ask_back(part)
    if asks_requester(back) and not has_requester and "requester" not in part.value:
        part.problem("ask_back", "to: requester needs a requester", _REQUESTER_HINT)
    choices, rejects = _choices(part)
    return VotingTerms(
        groups=_groups(part),
        # rendered only where somebody needs it: a missing name is an incident, and here it would be
        # one for nothing
        requester=(own or requester) if excluded.requester or asks_requester(back) else None,
        not_requester=excluded.requester,
        not_editors=excluded.editors,
        voters_of=tuple(excluded.voters_of),
        not_people=tuple(excluded.people),
        reject=_reject(part),
        choices=choices,
        rejects=rejects,
        form=cast("dict[str, Any] | None", part.value.get("form")),
        reason=cast("Reasons", part.choice("reason")),
        edit=_edit(part),
        expiry_choice=_expiry_choice(part, choices, rejects),
        on_nobody=cast("OnNobody", part.choice("on_nobody")),
        stages=stages(part),
        extending=extending(part),
        claiming=claiming(part, voters(part.value)),
        signed=cast("Level", part.choice("signed")),
        reminding=reminding(part),
        ask_back=back,
    )


def on_expiry(part: Part, terms: VotingTerms) -> OnExpiry:
    """How version 1 would say what the deadline means."""
    if part.value.get("on_expiry") == "incident":
        return "incident"
    return "reject" if terms.expiry_choice in terms.rejects else "approve"


# Who may answer -----------------------------------------------------------------------------------


def _groups(part: Part) -> tuple[SeatsAsked, ...]:
    quorum = part.value.get("quorum", 1)
    if isinstance(quorum, list):
        return _listed(part, quorum)
    role, people = who_answers(part, "approval")
    if quorum == "all" and people is None:
        part.problem("quorum", "quorum: all goes with people", "name them: people: [...], or write majority")
    if quorum in ("majority", "all"):
        need: int | Literal["majority", "all"] = quorum
    elif is_whole(quorum) and 1 <= quorum <= MOST_SEATS:
        need = quorum
    else:
        hint = f"write a whole number from 1 to {MOST_SEATS}, majority, all, or a list of groups"
        part.problem("quorum", f"quorum can't be {shown(quorum)}", hint)
        need = 1
    return (SeatsAsked(need=need, role=role, people=people),)


def _listed(part: Part, quorum: list[Any]) -> tuple[SeatsAsked, ...]:
    for key in ("role", "people"):
        if key in part.value:
            part.problem(key, f"{key} goes with a quorum that is a number", f"write {key} in the groups of quorum")
    if not quorum:
        part.problem("quorum", "quorum names no group", part.keys["quorum"].example)
    found: list[SeatsAsked] = []
    for place, value in enumerate(quorum):
        group = below(part, ("quorum", place), value, SEATS.keys, part.keys["quorum"].example)
        if group is not None:
            role, people = who_answers(group, "group")
            found.append(SeatsAsked(need=group.whole("need"), role=role, people=people))
    seats = sum(group.need for group in found if isinstance(group.need, int))
    if seats > MOST_SEATS:
        part.problem("quorum", f"{seats} people must answer", f"let at most {MOST_SEATS} answer")
    return tuple(found)


# Who can't ----------------------------------------------------------------------------------------


class _Excluded:
    """What `not` says."""

    def __init__(self, part: Part, steps: Mapping[str, Part]) -> None:
        self.requester = False
        self.editors = False
        self.voters_of: list[str] = []
        self.people: list[Template] = []
        self._steps = steps
        value = part.value.get("not", [])
        if isinstance(value, list):
            for place, one in enumerate(value):
                self._take(part, ("not", place), one)
        else:
            self._take(part, ("not",), value)

    def _take(self, part: Part, where: tuple[str | int, ...], value: Any) -> None:
        hint = "write requester, editors, {voters_of: STEP} or {people: ...}"
        if value == "requester":
            self.requester = True
        elif value == "editors":
            self.editors = True
        elif isinstance(value, str):
            part.book.add((*part.path, *where), f"not can't be {shown(value)}", hint)
        else:
            found = below(part, where, value, EXCLUDED.keys, hint)
            if found is not None:
                self._take_mapping(found, hint)

    def _take_mapping(self, found: Part, hint: str) -> None:
        if len(found.value.keys() & {"voters_of", "people"}) != 1:
            found.book.add(found.path, "not needs voters_of or people here", hint)
        if "voters_of" in found.value:
            self.voters_of += _approval(found, self._steps)
        if "people" in found.value:
            self.people.append(named_people(found) or EMPTY)


def _approval(found: Part, steps: Mapping[str, Part]) -> Iterable[str]:
    name = found.value["voters_of"]
    if not isinstance(name, str) or name not in steps:
        found.problem("voters_of", f"there is no step {shown(name)}", near(str(name), steps))
    elif "approval" not in steps[name].value:
        found.problem("voters_of", f"the step {name} is not an approval, so nobody votes there", "name an approval")
    else:
        yield name


# What they say ------------------------------------------------------------------------------------


def _choices(part: Part) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The choices, and those of them that reject."""
    if "choices" not in part.value:
        if "rejects" in part.value:
            part.problem("rejects", "rejects goes with choices", "write choices, or remove it")
        return ("approve", "reject"), ("reject",)
    choices = _words(part, "choices")
    rejects = _words(part, "rejects") if "rejects" in part.value else [name for name in choices if name == "reject"]
    for name in rejects:
        if name not in choices:
            part.problem("rejects", f"{shown(name)} is not among the choices", near(name, choices))
    if "incident" in choices:
        part.problem("choices", "incident is what on_expiry says for none of the choices", "take another word")
    if len(choices) < 2:  # noqa: PLR2004 - one is no choice
        part.problem("choices", "there must be two choices at least", part.keys["choices"].example)
    if choices and set(choices) <= set(rejects):
        part.problem("rejects", "every choice rejects, so nobody can approve", "leave one of the choices out")
    return tuple(choices), tuple(rejects)


def _words(part: Part, key: str) -> list[str]:
    value = part.value[key]
    if isinstance(value, list) and all(isinstance(name, str) and name.strip() for name in value):
        if len(set(value)) == len(value):
            return value
        part.problem(key, f"{key} names the same twice", "write it once")
    else:
        part.problem(key, f"{key} must be a list of words", part.keys["choices"].example)
    return []


def _expiry_choice(part: Part, choices: tuple[str, ...], rejects: tuple[str, ...]) -> str:
    wanted = part.value.get("on_expiry", "reject")
    if wanted in choices or wanted == "incident":
        return str(wanted)
    if "deadline" in part.value or "on_expiry" in part.value:
        known = [*choices, "incident"] if "choices" in part.value else get_args(OnExpiry)
        part.problem("on_expiry", f"on_expiry can't be {shown(wanted)}", f"write {join(known)}")
    # without a deadline nothing expires
    return next(iter(rejects), "reject")


def _reject(part: Part) -> int | Literal["majority"]:
    value = part.value.get("reject", "any")
    if value == "any":
        return 1
    if value == "majority":
        return "majority"
    if is_whole(value) and 1 <= value <= MOST_SEATS:
        return value
    part.problem(
        "reject", f"reject can't be {shown(value)}", f"write any, majority, or a number from 1 to {MOST_SEATS}"
    )
    return 1


def _edit(part: Part) -> EditsAsked:
    limit = cast("int", EDIT.keys["limit"].default)
    value = part.value.get("edit", True)
    if isinstance(value, bool):
        return EditsAsked(limit=limit if value else 0)
    edit = below(part, ("edit",), value, EDIT.keys, part.keys["edit"].example)
    if edit is None:
        return EditsAsked(limit=limit)
    if "role" in edit.value and "people" in edit.value:
        edit.problem("people", "edit has both role and people", "name one of them")
    people = named_people(edit) if "people" in edit.value else None
    return EditsAsked(limit=edit.whole("limit"), role=edit.text_template("role", "who may edit"), people=people)
