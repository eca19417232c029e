"""
Sinks: the ways to write a channel's frames, through the request, to the socket, or to an HTTP/2 stream.
"""
