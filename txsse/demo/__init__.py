"""
The web tree of ``twist txsse --demo``: a page that shows live streams in a browser, and these streams.
"""
