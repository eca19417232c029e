"""
Many streams: publish once, and reach every subscriber.
"""
