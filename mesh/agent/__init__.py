"""What an agent author imports, by way of `mesh`: the decorator, the context, the errors.

`mesh.agent` is the decorator itself (the package `mesh` binds that name), so code inside the mesh
imports from the modules here: `from mesh.agent.definition import Agent`.
"""
