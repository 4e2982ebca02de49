"""Check the capabilities that a route asks for.

Owns three rules: a step's capability has a contract, some agent is registered for it, and each
registered agent keeps the contract. Whether a step's input meets the contract, and whether
expressions read what its output has, is checked by `mesh.inspection.checks.values`, as for agents;
`schemas_of` says which schemas apply. `mesh.inspection.checks.missing_names` calls it.
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
    """The schemas of what is sent to an agent or a capability, and of what comes back.

    None: not known. `name`: the agent or the capability.
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
    """The schemas of a step's capability, by its contract, or of its agent, by its card.

    None if they are not known.
    """
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
    """Where the agent breaks the contract.

    It must accept whatever the contract lets others send, and give what the contract promises.
    """
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
