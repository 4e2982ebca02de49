"""The console's API: the same answers as the pages, as JSON, for programs.

Owns what programs may ask. It finds nothing of its own: the queries, the rights and the limits are
those of the pages.

    answers     who asks, errors as RFC 9457 has them, and how a value becomes an answer
    endpoint    what an endpoint is: its place, what it takes and gives
    approvals   what waits for people, and answers
    mesh        workflows, incidents, agents, the mesh as a whole
    commands    what operators order of one workflow
    operations  and of many
    letters     dead letters, and what operators do about them
    table       all endpoints, and their routes
    document    the same as OpenAPI 3.1
"""
