"""
One stream to one client: from a request to an :class:`txsse.SSEChannel`.
"""
