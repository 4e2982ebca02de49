"""`mesh approvals`, `mesh approve`, `mesh reject`: the commands, the editor and the keyboard."""
