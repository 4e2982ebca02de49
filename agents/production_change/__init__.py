"""A change to production: four eyes, two approvals, and no agent at all."""
