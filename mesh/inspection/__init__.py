"""Answers for people about routes, workflows and a whole mesh, as values.

No process of the mesh imports this package; only tools do.
"""
