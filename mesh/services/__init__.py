"""The processes of the mesh: router, agent runtime, client.

They know ports, never adapters, and nothing of `mesh.inspection`.
"""
