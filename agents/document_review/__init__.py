"""Document review: a writer and a critic in a loop, until the text is plain enough, and an editor
at its end (docs/examples.md).
"""
