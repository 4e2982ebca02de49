"""Packages for Node.js that tests need, from a lock file in their folder.

Owns their installation: once, by one process, and again when the lock file has changed.
"""

import fcntl
import subprocess
from pathlib import Path


def install(folder: Path) -> Path:
    """The folder `node_modules`, with what the lock file names."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = folder / "node_modules" / ".package-lock.json"
        if not installed.exists() or installed.stat().st_mtime < (folder / "package-lock.json").stat().st_mtime:
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder / "node_modules"
