"""Agents that come with the mesh.

They import `mesh` as any agent author's file does, and nothing below it.
"""

__version__ = "0.1.0"
