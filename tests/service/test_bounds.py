"""
Tests of the service's limits that depend on the machine.
"""

from __future__ import annotations

from typing import Any

import pytest

from txsse.service.bounds import connections_by_files


class ConnectionsTests:
    def test_by_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The default limit of connections is the process's limit of open files, less a reserve for other files.
        """
        resource: Any = pytest.importorskip("resource")
        for limit, count in ((1024, 960), (10, 1), (resource.RLIM_INFINITY, None)):
            monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
            assert connections_by_files() == count
