"""
The parts of ``benchmarks/journals.py``, which compares journals.
"""
