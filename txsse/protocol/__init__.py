"""
The event stream format, without I/O: an encoder from events to bytes, and a parser from bytes to events.

This package does not need Twisted; it works in any program.
"""
