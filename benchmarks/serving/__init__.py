"""
The parts of ``benchmarks/mercure.py``, which measures publishing over HTTP.
"""
