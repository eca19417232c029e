"""
The programs of ``benchmarks/journals.py`` that run as child processes.
"""
