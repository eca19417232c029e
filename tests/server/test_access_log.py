"""
The date of each line in the access log.
"""

from __future__ import annotations

from pathlib import Path

from tests.fakes import Client, Wire
from tests.server.test_site import Page
from txsse.server.site import ClosingSite


class AccessLogTests:
    def test_clock_that_is_set(self, plain: Wire, tmp_path: Path) -> None:
        """
        Each line has the time of day at which it was written.
        """
        path = tmp_path / "access.log"
        site = ClosingSite(Page(), reactor=plain.reactor)
        site.logPath = str(path)
        site.doStart()
        client = Client(plain, site)
        for step in (1_000_000_000, 86400, -2 * 86400):
            plain.reactor.step(step)
            client.request()
            plain.reactor.run_soon()
        client.disconnect()
        site.doStop()
        dates = [line.partition("[")[2].partition("]")[0] for line in path.read_text().splitlines()]
        assert dates == [
            "09/Sep/2001:01:46:40 +0000",
            "10/Sep/2001:01:46:40 +0000",
            "08/Sep/2001:01:46:40 +0000",
        ]
