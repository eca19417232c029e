"""
Journals: ordered records of updates, from which a hub replays and which it follows. Nothing here uses HTTP.
"""
