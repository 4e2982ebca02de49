"""One task, a support ticket that wants an answer, done in three designs.

They are a linear chain, a stateful DAG, and a mesh whose agents hand over (docs/examples.md).
"""
