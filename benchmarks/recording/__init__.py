"""
The parts of the benchmark of the journals: see ``benchmarks/journals.py``.
"""
