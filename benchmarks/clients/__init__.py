"""
The parts of ``benchmarks/client.py``, which compares clients.
"""
