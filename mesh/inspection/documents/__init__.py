"""What the mesh says to programs: the shapes of the console's API, and the way there and back.

Owns the shapes alone. The console makes them of what it finds, and the command line turns them back
into the same values that it finds in its own caches, so its tables look the same either way. Times
are RFC 3339; a place in a list is a cursor.

    pages       a part of a list
    approvals   what waits for people, and how it ended
    workflows   workflows, their timelines and incidents
    letters     dead letters
    meshes      the mesh as a whole, and its agents
"""
