"""What is wrong with the mesh itself: its broker, topics, processes, definitions and files.

Each check is one small function that reads, and one that judges what was read. `examine` runs all
of them: each is bounded in time, and one that fails or hangs is a finding itself. Nothing is
changed. `mesh.inspection.mesh_status` says what is stuck in the work; one check takes that in.

`values` has what is found, `patient` what the checks read, `table` which checks there are.
"""

from mesh.inspection.doctor.examine import examine
from mesh.inspection.doctor.values import Diagnosis, Examined, Finding

__all__ = ["Diagnosis", "Examined", "Finding", "examine"]
