"""The log over years: folded in bounded memory, exported to a file, imported into another mesh.

folding     one partition's fold, with states on disk; digests of states
exporting   the log and what else a mesh needs, to a file
importing   such a file into an empty mesh
"""
