"""
The room of ``mercure.py``: publishing over HTTP, with all that goes with it.
"""
