"""Who can be asked back about an approval, by those who are to approve it.

`mesh.routes.voting` calls this.
"""

from typing import Any, Final

from mesh.core.questions import REQUESTER
from mesh.core.route import AddresseeAsked, BackAsked
from mesh.routes.problems import Part, shown
from mesh.routes.stages import below, named_people
from mesh.routes.step_keys import ASK_BACK, ASKED
from mesh.routes.values import NEVER

_HINT: Final = "write requester, {agent: ...}, {role: ...} or {people: ...}"


def ask_back(part: Part) -> BackAsked | None:
    """Who can be asked, how often, and how far that moves the deadline."""
    if "ask_back" not in part.value:
        return None
    back = below(part, ("ask_back",), part.value["ask_back"], ASK_BACK.keys, part.keys["ask_back"].example)
    if back is None:
        return None
    back.check_required()
    if "extends" in back.value and part.value.get("deadline", NEVER) == NEVER:
        back.problem("extends", "there is no deadline to move", "write a deadline, or remove extends")
    extends_s = back.duration("extends") if "extends" in back.value else 0.0
    return BackAsked(to=_all(back), limit=back.whole("limit"), extends_ms=int(extends_s * 1000))


def asks_requester(back: BackAsked | None) -> bool:
    """Whether the requester is among those who can be asked."""
    return back is not None and any(one.is_requester for one in back.to)


def _all(back: Part) -> tuple[AddresseeAsked, ...]:
    value = back.value.get("to", REQUESTER)
    if isinstance(value, list):
        if not value:
            back.problem("to", "to names nobody", _HINT)
        found = [_one(back, ("to", place), one) for place, one in enumerate(value)]
    else:
        found = [_one(back, ("to",), value)]
    known = tuple(one for one in found if one is not None)
    names = [_name(one) for one in known]
    for name in sorted({name for name in names if name and names.count(name) > 1}):
        back.problem("to", f"two of those who can be asked are called {name}", "leave one of them out")
    return known


def _name(one: AddresseeAsked) -> str:
    """What an asker would call them, where the route says it."""
    if one.is_requester:
        return REQUESTER
    who = one.role if one.role is not None else one.people
    return one.agent or (str(who.source) if who is not None and not who.paths else "")


def _one(back: Part, where: tuple[str | int, ...], value: Any) -> AddresseeAsked | None:
    if value == REQUESTER:
        return AddresseeAsked(is_requester=True)
    if isinstance(value, str):
        back.book.add((*back.path, *where), f"to can't be {shown(value)}", _HINT)
        return None
    found = below(back, where, value, ASKED.keys, _HINT)
    if found is None:
        return None
    if len(found.value.keys() & ASKED.keys.keys()) != 1:
        found.book.add(found.path, "one of agent, role and people is needed here", _HINT)
        return None
    if "agent" in found.value:
        return AddresseeAsked(agent=found.name("agent"))
    if "people" in found.value:
        return AddresseeAsked(people=named_people(found))
    return AddresseeAsked(role=found.text_template("role", "who can be asked, such as role: clerk"))
