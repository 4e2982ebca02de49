"""Links to approvals in the console.

Owns their forms: `<MESH_CONSOLE_URL>/approval?id=<approval id>`, and the short one, `/a/<ref>`. An
id holds `/`, `#` and `:`, so it is a parameter: proxies change paths. A link holds no secret and
gives no right.
"""

from base64 import b32encode
from hashlib import sha256
from typing import Final
from urllib.parse import quote

REF_LENGTH: Final = 16  # characters: 80 bits, so that two approvals never share one


def approval_link(console: str, approval_id: str) -> str:
    """Where the console shows an approval. It shows it to those alone who may see it."""
    return f"{console.rstrip('/')}/approval?id={quote(approval_id, safe='')}"


def approval_ref(approval_id: str) -> str:
    """The approval's name in a short link."""
    return b32encode(sha256(approval_id.encode()).digest()).decode()[:REF_LENGTH].lower()
