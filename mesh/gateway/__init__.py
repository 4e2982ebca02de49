"""The gateway: events over HTTP, and webhooks of other systems.

A process of its own (`mesh gateway`) that needs the right to write events, and no other. It answers
202 only after the broker has the events. `app` has the requests and how the parts hang together.
"""
