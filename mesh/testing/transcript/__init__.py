"""Transcripts: what happened in a mesh as text, to read as a conversation and review as a diff.

writer    the layout: titles, routes, notes, one paragraph for each decision, short names of runs
words     who was asked what, who answered what, and why (`headings`: what came in); the words for
          an event are `mesh.inspection.wording`'s

Tests of the core (`tests/unit/transcript.py`) and the kit for tests of routes (`mesh.testing.kit`)
write with it. A simulation has a trace of its own (`mesh.testing.simulation.transcript`), which has
every record with its place. It serves the search for a fault, and is never compared.
"""

from mesh.testing.transcript.writer import Writer, since, stand, steps_of

__all__ = ["Writer", "since", "stand", "steps_of"]
