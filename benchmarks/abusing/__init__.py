"""
What clients that mean harm can do to the service: the parts of ``benchmarks/abuse.py``.
"""
