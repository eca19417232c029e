"""
The parts of the benchmark of the client: see ``benchmarks/client.py``.
"""
