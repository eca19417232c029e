"""
The parts of ``benchmarks/cluster.py``, the soak test of a cluster.
"""
