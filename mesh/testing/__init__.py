"""Public fakes and contract suites, for those who test agents, routes and adapters."""
