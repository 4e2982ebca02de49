"""An event loop in virtual time, and simulated processes that run and die in it."""
