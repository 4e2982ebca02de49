"""The notifier: it tells people what waits for their approval, and reminds them.

A process of its own (`mesh notifier`) that needs the approvals topics alone. `notifier` has the
turns and how the parts hang together.
"""
