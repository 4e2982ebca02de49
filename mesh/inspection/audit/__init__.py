"""The audit of a workflow's approvals: what the log proves, checked without a broker.

    bundle      the decisions of a workflow and the records of people, as lines of a file
    signatures  one answer's signature, checked again over its bytes
    verify      the fold of the decisions, each event held against what it rests on

It must not take a decision's word for anything that it can check. What nobody can prove by a log
(the broker's times, and that no answer was withheld) docs/audit.md says.
"""

from mesh.inspection.audit.bundle import Bundle, BundleInvalid, bundle_lines, read_bundle
from mesh.inspection.audit.verify import Failure, Report, verify

__all__ = ["Bundle", "BundleInvalid", "Failure", "Report", "bundle_lines", "read_bundle", "verify"]
