"""Modules of agents, by dotted name: what goes wrong when one is imported, in a line.

Owns the words for it: whose file, which line, and what to write instead. A module is anybody's
code, and its import may raise anything. Called by `mesh.wiring`.
"""

import os
import sysconfig
from importlib import import_module
from pathlib import Path
from traceback import extract_tb
from types import ModuleType, TracebackType
from typing import Final

from mesh.errors import MeshError, OperatorError

_MESH: Final = str(Path(__file__).parent.parent)
_LIBRARIES: Final = (*(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")), _MESH)
_NOT_THE_AUTHORS: Final = ("<", *(f"{folder}{os.sep}" for folder in _LIBRARIES))


def import_agents_module(name: str) -> ModuleType:
    """The module. Raises `OperatorError`; Ctrl-C passes through."""
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        raise OperatorError(f"{name} is not a module's name: write {_dotted(name)}, from the folder that holds it")
    try:
        return import_module(name)
    # a module may do anything while it is imported, also end the process
    except (Exception, SystemExit) as error:
        raise OperatorError(" ".join(_said(name, error).split())) from error


def _dotted(name: str) -> str:
    """`./agents/triage.py` as Python names it."""
    parts = name.removesuffix(".py").replace("\\", "/").replace("/", ".").split(".")
    return f"`{'.'.join(part for part in parts if part)}`" if any(parts) else "a dotted name, e.g. `agents.triage`"


def _said(name: str, error: BaseException) -> str:
    match error:
        case ModuleNotFoundError() if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return (
                f"module {name} can't be imported: {error} (run from the folder that holds it, e.g. "
                "`mesh agent agents.issue_triage.classifier`)"
            )
        case ModuleNotFoundError() if error.name is not None:
            return f"module {name} needs {error.name}, which is not installed here{_at(error)}"
        case SyntaxError():
            where = f"{error.filename}:{error.lineno}" if error.filename else name
            return f"module {name} can't be imported: {where}: {error.msg}"
        case MeshError():  # says where by itself
            return f"module {name} can't be imported: {error}"
        case _:
            return f"module {name} can't be imported: {type(error).__name__}: {error}{_at(error)}"


def _at(error: BaseException) -> str:
    """The last line of the author's own code on the way to the error."""
    place = _own_place(error.__traceback__)
    return f" ({place})" if place else ""


def _own_place(trace: TracebackType | None) -> str | None:
    frames = [frame for frame in extract_tb(trace) if not frame.filename.startswith(_NOT_THE_AUTHORS)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None
