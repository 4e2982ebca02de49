"""Commands that run processes: `mesh dev`, `mesh router`, `mesh agent`, `mesh health`."""
