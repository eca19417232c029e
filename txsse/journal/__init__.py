"""
Journals: ordered records of updates, which a hub replays from and follows. They know no HTTP.
"""
