"""
The version of txsse, set by ``python -m incremental.update txsse``.
"""

from incremental import Version

__version__ = Version("txsse", 26, 11, 0, dev=0)
__all__ = ["__version__"]
