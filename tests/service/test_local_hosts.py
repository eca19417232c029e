"""
Tests of the check of host names by a hub that listens on loopback only.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes import Wire
from tests.web.bounded_world import World
from txsse.service.local_hosts import foreign_host_rule


@pytest.fixture
def world(plain: Wire) -> Iterator[World]:
    world = World(plain)
    yield world
    world.end()


class HostTests:
    """
    A hub on loopback, and requests for foreign host names.
    """

    @pytest.mark.parametrize(
        ("endpoints", "url", "checked"),
        [
            (["tcp:8080:interface=127.0.0.1"], "http://127.0.0.1:8080/hub", True),
            (["tcp:8080:interface=localhost"], "http://localhost:8080/hub", True),
            (["tcp:port=8080:interface=127.9.9.9:backlog=5"], "http://localhost:8080/hub", True),
            ([r"tcp6:8080:interface=\:\:1"], "http://[::1]:8080/hub", True),
            ([r"tcp6:8080:interface=0\:0\:0\:0\:0\:0\:0\:1"], "http://[::1]:8080/hub", True),
            (["ssl:8443:interface=127.0.0.1:privateKey=a.pem"], "https://localhost:8443/hub", True),
            (["tcp:8080:interface=127.0.0.1"], "https://hub.example/hub", False),
            (["tcp:8080:interface=127.0.0.1", "tcp:8081"], "http://localhost:8080/hub", False),
            (["tcp:8080"], "http://localhost:8080/hub", False),
            (["tcp:8080:interface=0.0.0.0"], "http://localhost:8080/hub", False),
            (["unix:/run/hub"], "http://localhost/hub", False),
        ],
    )
    def test_sites_that_check_host_names(
        self, world: World, endpoints: list[str], url: str, checked: bool
    ) -> None:
        """
        Host names are checked if all endpoints are on loopback and the URL has a local host.
        """
        client = world.connect(refuse=foreign_host_rule(endpoints, url))
        client.say(b"GET /page HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert client.status == (403 if checked else 200)
        assert (b"--url" in client.body) == checked
        for host in ("127.0.0.1:8080", "localhost", "[::1]:8080"):
            client.reset_response()
            client.say(f"GET /page HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert client.status == 200
