"""
Limits of the service that depend on the machine: the number of connections.
"""

from __future__ import annotations

try:
    import resource
except ImportError:  # pragma: no cover
    # Windows does not have this module.
    resource = None  # type: ignore[assignment]

__all__ = ["connections_by_files"]

# Open files that are not connections of clients: logs, journals, listening sockets, requests for keys, and
# the files that Python opens.
_OTHER_FILES = 64


def connections_by_files() -> int | None:
    """
    Return how many connections the service may accept within the process's limit of open files.

    At that limit, a process cannot open any file or connection, not even its journal.

    :returns: the number; ``None`` if the number of open files is not limited.
    """
    if resource is None:  # pragma: no cover
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else max(1, limit - _OTHER_FILES)
