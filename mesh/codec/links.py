"""Links to approvals in the console.

Owns their form: `<MESH_CONSOLE_URL>/approvals/<approval id>`. A link that lets one person answer
once adds its token as the query `t`; who makes such tokens also says what they hold.
"""

from urllib.parse import quote


def approval_link(console: str, approval_id: str) -> str:
    """Where the console shows an approval. It shows it to those alone who may see it."""
    return f"{console.rstrip('/')}/approvals/{quote(approval_id, safe='')}"
