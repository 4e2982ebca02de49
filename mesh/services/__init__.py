"""The processes of the mesh: router, agent runtime, read model, client. They know ports, never adapters."""
