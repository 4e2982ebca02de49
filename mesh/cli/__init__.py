"""The command line: `mesh`."""
