"""
Whose requests the demo takes.
"""

from __future__ import annotations

import pytest

from txsse.web.origin import refuse_host, refuse_origin


class HostTests:
    @pytest.mark.parametrize(
        "host",
        [
            b"127.0.0.1",
            b"127.0.0.1:8080",
            b"192.168.1.20:8080",
            b"0.0.0.0:8080",
            b"[::1]",
            b"[::1]:8080",
            b"[fe80::1]:8080",
            b"localhost",
            b"localhost:8080",
            b"LOCALHOST:8080",
            b"localhost.:8080",
            b"txsse.localhost:8080",
            b"a.b.localhost",
            # An empty port is legal in a URI, and stands for the usual one.
            b"localhost:",
        ],
    )
    def test_names_this_machine(self, host: bytes) -> None:
        """
        What no other site can be called is let through.
        """
        assert refuse_host([host], b"HTTP/1.1") is None

    @pytest.mark.parametrize(
        "host",
        [
            b"",
            b"example.org",
            b"example.org:8080",
            b"localhost.example.org",
            b"127.0.0.1.example.org",
            b"notlocalhost",
            b"localhost..",
            b"127.0.0.1@example.org",
            b"example.org#localhost",
            b"localhost/",
            b"localhost:port",
            b"localhost:65536",
            b"localhost:" + b"1" * 5000,
            b"[::1",
            b"::1",
            b"[::1].example.org",
            b"[127.0.0.1]",
            b"[]",
            b"127.1",
            b"2130706433",
            b"127.0.0.256",
            b"127.0.0.01",
            b"local\xc4\xa7ost",
            b"localhost\n",
            b" localhost",
        ],
    )
    def test_names_something_else(self, host: bytes) -> None:
        """
        Everything else is refused, in one plain sentence that says what to do.
        """
        refused = refuse_host([host], b"HTTP/1.1")
        assert refused is not None
        assert "localhost" in refused and refused.endswith(".") and "\n" not in refused

    @pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/2"])
    def test_no_host(self, version: bytes) -> None:
        """
        A request must have a Host where the protocol demands it.
        """
        assert refuse_host([], version) == "A request must have one Host header."

    def test_no_host_in_http_1_0(self) -> None:
        """
        HTTP/1.0 knows no Host, and no browser speaks it.
        """
        assert refuse_host([], b"HTTP/1.0") is None

    def test_another_site_in_http_1_0(self) -> None:
        """
        A Host that is there counts in every version.
        """
        assert refuse_host([b"example.org"], b"HTTP/1.0") is not None

    def test_two_hosts(self) -> None:
        """
        Which of the two the client meant, nobody knows.
        """
        assert refuse_host([b"localhost", b"example.org"], b"HTTP/1.1") is not None


class OriginTests:
    @pytest.mark.parametrize(
        ("origin", "scheme", "host"),
        [
            (b"http://localhost:8080", b"http", b"localhost:8080"),
            (b"http://127.0.0.1:8080", b"http", b"127.0.0.1:8080"),
            (b"https://[::1]:8443", b"https", b"[::1]:8443"),
            (b"http://localhost", b"http", b"localhost:80"),
            (b"https://localhost", b"https", b"localhost:443"),
            (b"http://localhost", b"http", b"LocalHost"),
        ],
    )
    def test_same_origin(self, origin: bytes, scheme: bytes, host: bytes) -> None:
        """
        A page of this server may.
        """
        assert refuse_origin(origin, None, scheme, host) is None

    @pytest.mark.parametrize(
        ("origin", "scheme", "host"),
        [
            (None, b"http", b"localhost:8080"),
            (b"null", b"http", b"localhost:8080"),
            (b"", b"http", b"localhost:8080"),
            (b"http://example.org", b"http", b"localhost:8080"),
            (b"http://localhost:8081", b"http", b"localhost:8080"),
            (b"http://localhost", b"http", b"localhost:8080"),
            (b"https://localhost:8080", b"http", b"localhost:8080"),
            (b"http://localhost:443", b"https", b"localhost:443"),
            (b"http://localhost:8080", b"http", None),
            (b"http://127.0.0.1:8080", b"http", b"localhost:8080"),
        ],
    )
    def test_another_origin(self, origin: bytes | None, scheme: bytes, host: bytes | None) -> None:
        """
        Nobody else may, and no one who does not say.
        """
        refused = refuse_origin(origin, None, scheme, host)
        assert refused is not None
        assert refused.endswith(".") and "\n" not in refused

    def test_browser_vouches_for_the_page(self) -> None:
        """
        Sec-Fetch-Site counts alone: behind a TLS proxy the schemes differ.
        """
        assert refuse_origin(b"https://localhost", b"same-origin", b"http", b"localhost") is None

    @pytest.mark.parametrize("fetch_site", [b"same-site", b"cross-site", b"none", b""])
    def test_browser_tells_of_another_site(self, fetch_site: bytes) -> None:
        """
        Of its values only same-origin does: localhost:1 and localhost:2 are the same site.
        """
        assert refuse_origin(None, fetch_site, b"http", b"localhost") is not None
