"""
The service of ``twist txsse``: a hub, or the demo, with its configuration, endpoints and health checks.
"""
