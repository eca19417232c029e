"""
The hub: topics, live fan-out and replay.

A program publishes an update once, and the hub sends it to all subscribers of its topics.
"""
