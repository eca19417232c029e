"""
The other end: follow a stream.
"""
