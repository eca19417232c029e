"""
The parts of the benchmark of the hub: see ``benchmarks/hub.py``.
"""
