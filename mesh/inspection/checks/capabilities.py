"""What is wrong with the capabilities that a route asks for.

Owns that a step's capability has a contract, that some agent is registered for it, and that each
registered agent keeps the contract. That a step's input meets the contract, and that expressions
read what is in its output, is checked where it is for agents: `schemas_of` says what to hold them
to.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mesh.core.capabilities import Contract
from mesh.core.route import AgentWork, Route
from mesh.core.state import AgentCard
from mesh.inspection.inference.schema_fit import misfits
from mesh.inspection.inference.value_types import Of
from mesh.routes.problems import DocumentPath, near

Agents = Mapping[str, AgentCard] | None
Contracts = Mapping[str, Contract] | None


class Schemas(NamedTuple):
    """What is sent to whoever does the work, and what comes back; None: not known.

    `name`: who that is.
    """

    name: str
    input: dict[str, Any] | None
    output: dict[str, Any] | None


class Problem(NamedTuple):
    path: DocumentPath
    code: str
    message: str
    hint: str


def schemas_of(work: AgentWork, agents: Agents, contracts: Contracts) -> Schemas | None:
    """Of a capability's step its contract's, else the agent's own; None where neither is known."""
    if work.capability:
        contract = (contracts or {}).get(work.capability)
        return None if contract is None else Schemas(work.capability, contract.input, contract.output)
    card = (agents or {}).get(work.agent)
    return None if card is None else Schemas(card.name, card.input_schema, card.output_schema)


def capability_problems(route: Route, agents: Agents, contracts: Contracts) -> Iterator[Problem]:
    for name, step in route.steps.items():
        if isinstance(step.work, AgentWork) and step.work.capability:
            yield from _of_capability(("steps", name, "capability"), step.work.capability, agents, contracts)
        if step.undo is not None and step.undo.capability:
            yield from _of_capability(("steps", name, "undo", "capability"), step.undo.capability, agents, contracts)


def _of_capability(path: DocumentPath, capability: str, agents: Agents, contracts: Contracts) -> Iterator[Problem]:
    if contracts is not None and capability not in contracts:
        yield Problem(path, "unknown_capability", f"no contract is called {capability}", near(capability, contracts))
    if agents is None:
        return
    registered = [agents[name] for name in sorted(agents) if capability in agents[name].capabilities]
    if not registered:
        others = {other for card in agents.values() for other in card.capabilities}
        hint = near(capability, others) if others else f'@agent(NAME, capabilities=["{capability}"])'
        yield Problem(path, "no_agent", f"no agent is registered for {capability}", hint)
    contract = (contracts or {}).get(capability)
    if contract is None:
        return
    for card in registered:
        for what, misfit in _broken(card, contract):
            yield Problem(path, "contract_misfit", f"agent {card.name}, {what}: {misfit}", "")


def _broken(card: AgentCard, contract: Contract) -> Iterator[tuple[str, str]]:
    """It must take whatever the contract lets others send, and give what the contract promises."""
    if card.input_schema is not None:
        what = "input by the contract"
        yield from ((what, one) for one in _misfits(contract.input, card.input_schema, "it"))
    if card.output_schema is not None:
        yield from (("output", one) for one in _misfits(card.output_schema, contract.output, "the contract"))


def _misfits(given: dict[str, Any], wanted: dict[str, Any], who: str) -> Iterator[str]:
    for misfit in misfits(Of(given, given), wanted, wanted):
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in misfit.path)
        yield f"{path.lstrip('.')} {misfit.message}".lstrip()
    for name in wanted.get("required", ()):
        if name in given.get("properties", ()) and name not in given.get("required", ()):
            yield f"may come without {name}, which {who} requires"
