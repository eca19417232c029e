"""
HTTP without event streams: what Twisted's server lacks, and plain answers.
"""

from __future__ import annotations

from txsse.web.bounded_site import BoundedSite

__all__ = ["BoundedSite"]
