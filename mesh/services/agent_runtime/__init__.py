"""The agent runtime: takes tasks from an agent's topic, runs its handler, sends the results.

    record -> assignment (offsets) -> workers -> call (validate, run, validate)
           -> replies -> outbox (batches, retries) -> assignment (commit)

`AgentRuntime` is one agent in one process; `run_agents` runs several until a signal. Called by the
command line and by tests.
"""
