"""
The parts of the soak of a cluster: see ``benchmarks/cluster.py``.
"""
