"""The console: pages in a browser for people who answer, and for operators.

Owns pages, sessions and what a browser may do. It decides nothing about workflows: it shows what
`mesh.inspection` finds, and sends answers with `mesh.services.client`. Only `mesh.wiring` starts
it, and nothing else imports it, so no other command loads a web server.

    projector    follows the broker into the local caches, all the time
    files        read-only connections to those, in threads
    hub          server-sent events: what has changed
    staff        who somebody is, and what they may see and do
    sessions     who is signed in, in a file of the console's own
    tokens       of programs, in a file that all consoles of a data folder share
    guard        headers, and which requests are refused before a page sees them
    parameters   what a URL may say
    pages        a module for each page
    api          the same for programs, as JSON
    app          which URL is which page
"""
