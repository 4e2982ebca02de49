"""The kit for tests of routes: played agents and people, in virtual time.

Days pass in milliseconds. docs/testing-routes.md shows how to use it.

kit            MeshKit: what a test holds
run            one run of a workflow, as a test sees and moves it
scripts        what played agents and people do
cast           who plays them
stage          reads what the mesh writes, lets the cast play, keeps what happened: on any broker
engines        memory and virtual time, or a real broker in real time
route_sources  where a test's routes come from
account        what happened, as a conversation
golden         transcripts in files
"""

from mesh.testing.kit.cast import Call, PlayedAgent, Question
from mesh.testing.kit.errors import KitError, Refused, StandsStill, TranscriptDiffers
from mesh.testing.kit.kit import MeshKit
from mesh.testing.kit.run import Ended, Run
from mesh.testing.kit.scripts import Answer, approves, chooses, dies, fails, hangs, later, rejects, silent, uses

__all__ = [
    "Answer",
    "Call",
    "Ended",
    "KitError",
    "MeshKit",
    "PlayedAgent",
    "Question",
    "Refused",
    "Run",
    "StandsStill",
    "TranscriptDiffers",
    "approves",
    "chooses",
    "dies",
    "fails",
    "hangs",
    "later",
    "rejects",
    "silent",
    "uses",
]
