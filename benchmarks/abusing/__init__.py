"""
The parts of ``benchmarks/abuse.py``, which measures what hostile clients cost the service.
"""
