"""The contracts of the mesh's topics, as data: `topics.yaml`, `schemas/` and `asyncapi.yaml`.

`mesh.services.topic_plan` reads them.
"""
