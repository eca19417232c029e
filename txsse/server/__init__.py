"""
The server side of streams: an HTTP request becomes a :class:`txsse.SSEChannel`.
"""
