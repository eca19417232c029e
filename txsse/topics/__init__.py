"""
Topics: exact topics, all topics, and patterns of topics.
"""
