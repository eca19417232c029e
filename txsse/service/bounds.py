"""
Bounds that depend on the machine.
"""

from __future__ import annotations

try:
    import resource
except ImportError:  # pragma: no cover
    # Windows has none.
    resource = None  # type: ignore[assignment]

__all__ = ["connections_by_files"]

# Files that are no connections: logs, journals, sockets to listen on, requests for keys, and what Python
# opens.
_OTHER_FILES = 64


def connections_by_files() -> int | None:
    """
    Return how many connections the process may have, by its limit of open files: where that is reached,
    nothing can be opened any more, not even a journal.

    :returns: the number; ``None`` where there is no limit.
    """
    if resource is None:  # pragma: no cover
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else max(1, limit - _OTHER_FILES)
