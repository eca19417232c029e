"""
Who may do what: keys, tokens, and the grants in them.
"""
