"""Search attributes in a route: `search` at the top.

`compiler` calls this.
"""

from mesh.core.searching import MOST
from mesh.routes.expressions.compiler import CompiledTemplate
from mesh.routes.problems import Part, shown
from mesh.routes.values import NAME_LENGTH, STEP_NAME

_HINT = "such as ${{ event.data.customer }}"


def search_of(root: Part) -> dict[str, CompiledTemplate]:
    """The templates by name."""
    if "search" not in root.value:
        return {}
    part = root.part("search", root.keys["search"].example)
    if part is None:
        return {}
    if not part.value:
        root.problem("search", "search names no attribute", root.keys["search"].example)
    if len(part.value) > MOST:
        root.problem("search", f"search has {len(part.value)} attributes, and at most {MOST} are kept", "remove some")
    for name in part.value:
        if not STEP_NAME.fullmatch(name) or len(name) > NAME_LENGTH:
            hint = f"start with a-z, then a-z, 0-9 and _; at most {NAME_LENGTH} characters"
            root.book.add((*part.path, name), f"an attribute can't be named {shown(name)}", hint, on_key=True)
    found = {name: part.text_template(name, _HINT) for name in part.value}
    return {name: template for name, template in found.items() if template is not None}
