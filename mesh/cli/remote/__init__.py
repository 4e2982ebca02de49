"""The console's API in the place of the broker, for people who have a token and no broker.

Owns how its answers become the values that commands show. `Session.api` chooses: it is there where
`MESH_CONSOLE_TOKEN_FILE` is set and no `--broker` is given. Tables and JSON are made by the same
code either way.

    api     the requests, and their errors
    inbox   what is open, in a cache like the one that is read from the broker
    picks   which one a part of an id means
"""
