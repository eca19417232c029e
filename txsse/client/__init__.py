"""
The SSE client: :class:`~txsse.EventSource` and the modules that it is made of.
"""
