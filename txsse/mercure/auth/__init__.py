"""
Authorisation: keys, tokens, and the grants in them.
"""
