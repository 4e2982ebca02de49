"""Transcripts: what happened in a mesh as text, to be read as a conversation and reviewed as a
diff.

writer    the layout: titles, routes, notes, and one paragraph for each decision; runs by short names
words     who was asked what, who answered what, and why (`headings`: what came in); the words for an
          event are `mesh.inspection.wording`'s

Tests of the core (`tests/unit/transcript.py`) and the kit for tests of routes (`mesh.testing.kit`)
write with it. A simulation has a trace of its own (`mesh.testing.simulation.transcript`): every
record with its place, for the search of a fault, and for nobody to compare.
"""

from mesh.testing.transcript.writer import Writer, since, stand, steps_of

__all__ = ["Writer", "since", "stand", "steps_of"]
