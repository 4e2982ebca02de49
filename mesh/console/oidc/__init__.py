"""Signing in with the company's own accounts: OpenID Connect, by its authorization code flow.

provider   what the provider says: its addresses and keys, and who has signed in
login      the way of a browser there and back, as a console's pages
"""
