"""
Two nodes of the service behind nginx, HAProxy and Caddy, with a browser as the subscriber.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.remote import OPEN, Source
from tests.journal.redis_server import RedisServer
from tests.processes import free_port
from tests.service.proxies import HOSTS, KINDS, METADATA, channels, node, program, proxy
from tests.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.proxy

# More streams than a browser opens to a host over HTTP/1.1.
COUNT = 8


class TwoNodesTests:
    @pytest.mark.parametrize("kind", KINDS)
    def test_one_killed(
        self, tab: Chrome, kind: str, certificate: Path, tmp_path: Path, shared_redis: RedisServer
    ) -> None:
        """
        When one of two nodes behind a proxy is killed, the browser's eight HTTP/2 streams continue at the
        other node, and each receives every event once and in order.
        """
        program(kind)
        status = free_port()
        journal = f"--journal={shared_redis.url}/{13 + list(KINDS).index(kind)}"
        with ExitStack() as left:
            both = [left.enter_context(node(status, journal, "--anonymous", host=host)) for host in HOSTS]
            urls = tuple(each.urls[1] for each in both)
            front = left.enter_context(proxy(kind, tmp_path, certificate, urls, status))
            wait_until(lambda: front.publish("too early").status_code == 200)
            tab.get(front.origin + METADATA)
            protocol = "return performance.getEntriesByType('navigation')[0].nextHopProtocol"
            assert tab.execute_script(protocol) == "h2"
            sources = [Source(tab, f"{front.url}?match=news") for _ in range(COUNT)]
            for source in sources:
                source.wait_for_state(OPEN)
            assert sum(map(channels, both)) == COUNT
            for number in range(5):
                # The retry field sets the delay of the browser's reconnection.
                assert front.publish(str(number), retry="100").status_code == 200
            for source in sources:
                source.wait_for_number(5)
            killed = next(each for each in both if channels(each)).process
            killed.kill()
            killed.wait(PATIENCE)
            for number in range(5, 10):
                wait_until(
                    lambda number=number: front.publish(str(number), f"urn:x:{number}").status_code == 200  # type: ignore[misc]
                )
            for source in sources:
                texts = [data for _, _, data in source.wait_for_events(10)]
                assert texts == [str(number) for number in range(10)]
            tab.get("about:blank")
