"""`mesh workflows` and `mesh workflow`."""
