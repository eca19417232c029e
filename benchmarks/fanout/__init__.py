"""
The parts of ``benchmarks/hub.py``, which compares the hub with other servers.
"""
