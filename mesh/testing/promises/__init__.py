"""The judge of the architecture's promises, which believes only what the broker holds."""
