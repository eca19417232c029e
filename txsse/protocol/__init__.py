"""
The event stream format, sans I/O: values in and bytes out, bytes in and values out.

Nothing in here imports Twisted; it all works in any program.
"""
