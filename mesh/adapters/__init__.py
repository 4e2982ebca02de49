"""Brokers, clocks and randomness: one module an adapter, each behind a port of `mesh.ports`."""
