"""
What ``twist txsse --demo`` serves: a page that shows live streams in a browser, and the streams.
"""
