"""Brokers, clocks and randomness as they are outside: one module an adapter, each behind a port of
`mesh.ports`.
"""
