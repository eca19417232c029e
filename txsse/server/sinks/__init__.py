"""
Ways from a channel to its client: through the request, straight to its socket, or through a stream of HTTP/2.
"""
