"""
Tests of origins and hosts, and of the requests that a local server refuses.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txsse.web.origin import (
    DEFAULT_PORTS,
    ascii_host,
    format_origin,
    name_in_host,
    origin_of,
    parse_origin,
    refuse_host,
    refuse_origin,
)

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9]+)*\.?", fullmatch=True)
HOSTS = NAMES | st.ip_addresses().map(str) | st.sampled_from(["bücher.example", "faß.de", "a_b"])
SCHEMES = st.sampled_from(["http", "https", "capacitor"])
PORTS = st.none() | st.integers(0, 65535)


class ParseTests:
    @settings(derandomize=True, deadline=None)
    @given(SCHEMES, HOSTS, PORTS, st.text(st.sampled_from("abc/?#:@é "), max_size=8))
    def test_same_origin(self, scheme: str, host: str, port: int | None, rest: str) -> None:
        """
        All notations of an origin, and its URLs, give the same text.
        """
        written = format_origin(scheme, host, port)
        assert parse_origin(written) == parse_origin(written.upper()) == written
        assert origin_of(f"{written}/{rest}") == origin_of(f"{written}?{rest}") == written
        if port is None and scheme in DEFAULT_PORTS:
            assert parse_origin(f"{written}:{DEFAULT_PORTS[scheme]}") == written
        if port != DEFAULT_PORTS.get(scheme):
            assert (port is None) or written.endswith(f":{port}")
        assert written.isascii() and written == written.lower()

    @pytest.mark.parametrize(
        ("text", "written"),
        [
            ("https://Example.ORG", "https://example.org"),
            ("https://example.org:443", "https://example.org"),
            ("https://example.org:0443", "https://example.org"),
            ("http://example.org:443", "http://example.org:443"),
            ("https://example.org.", "https://example.org."),
            ("https://Bücher.example", "https://xn--bcher-kva.example"),
            ("https://faß.de:8443", "https://xn--fa-hia.de:8443"),
            ("http://[0:0:0:0:0:0:0:1]:80", "http://[::1]"),
            ("http://my_service:8080", "http://my_service:8080"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ],
    )
    def test_written(self, text: str, written: str) -> None:
        """
        parse_origin returns an origin as browsers write it.
        """
        assert parse_origin(text) == written

    @pytest.mark.parametrize(
        "text",
        [
            *("", "null", "*", "://", "https://", "example.org", "//example.org", "https:example.org"),
            *("https://example.org/", "https://example.org?x", "https://example.org#x"),
            *(
                "https://me@example.org",
                "https://me:secret@example.org",
                "https://evil.example\\@example.org",
            ),
            *("https://example.org:", "https://example.org:65536", "https://example.org:x"),
            *(
                "https://*.example.org",
                "https://exa mple.org",
                "https://example.org ",
                "https://example.org\n",
            ),
            *(
                "https://[::1",
                "https://[::1]x",
                "https://[::g]",
                "https://[]",
                "https://[v1.x]",
                "https://[1.2.3.4]",
            ),
            *("https://bücher..example", "https://\x00ü.example", "ü://example.org"),
        ],
    )
    def test_invalid_origins(self, text: str) -> None:
        """
        Anything but an origin raises an error that says how an origin is written.
        """
        with pytest.raises(ValueError, match=r"^not an origin; an origin is .*: https://example\.org$"):
            parse_origin(text)

    def test_null(self) -> None:
        """
        The origin ``null`` is accepted only with allow_null.
        """
        assert parse_origin("null", allow_null=True) == "null"

    @pytest.mark.parametrize(
        "url", ["", "/x", "https://me:secret@example.org/", "https://a.example\\@b.example/", "about:blank"]
    )
    def test_urls_without_an_origin(self, url: str) -> None:
        """
        origin_of refuses a URL without a host, or with credentials.
        """
        with pytest.raises(ValueError, match=r"^not an origin"):
            origin_of(url)

    def test_hosts(self) -> None:
        """
        ascii_host accepts brackets or none, and name_in_host accepts a port or none.
        """
        assert ascii_host("[::1]") == ascii_host("::1") == "::1"
        assert name_in_host("Hub.Example.:80") == "hub.example"
        assert (name_in_host("[::1]:80"), name_in_host("a b")) == (None, None)


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
            # An empty port is legal in a URI, and stands for the default port.
            b"localhost:",
        ],
    )
    def test_names_this_machine(self, host: bytes) -> None:
        """
        IP addresses and localhost, which no other site can have as its name, are accepted.
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
    def test_other_names(self, host: bytes) -> None:
        """
        Any other host is refused, in one sentence that says what to do.
        """
        refused = refuse_host([host], b"HTTP/1.1")
        assert refused is not None
        assert "localhost" in refused and refused.endswith(".") and "\n" not in refused

    @pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/2"])
    def test_no_host(self, version: bytes) -> None:
        """
        A request without Host is refused if its HTTP version requires one.
        """
        assert refuse_host([], version) == "A request must have one Host header."

    def test_no_host_in_http_1_0(self) -> None:
        """
        An HTTP/1.0 request without Host is accepted, since no browser speaks HTTP/1.0.
        """
        assert refuse_host([], b"HTTP/1.0") is None

    def test_another_site_in_http_1_0(self) -> None:
        """
        An HTTP/1.0 request with another site's Host is refused.
        """
        assert refuse_host([b"example.org"], b"HTTP/1.0") is not None

    def test_two_hosts(self) -> None:
        """
        A request with two Host headers is refused, since the intended one is unknown.
        """
        assert refuse_host([b"localhost", b"example.org"], b"HTTP/1.1") is not None


class RefuseOriginTests:
    @pytest.mark.parametrize(
        ("origin", "scheme", "host"),
        [
            (b"http://localhost:8080", "http", b"localhost:8080"),
            (b"http://127.0.0.1:8080", "http", b"127.0.0.1:8080"),
            (b"https://[::1]:8443", "https", b"[::1]:8443"),
            (b"http://localhost", "http", b"localhost:80"),
            (b"https://localhost", "https", b"localhost:443"),
            (b"http://localhost", "http", b"LocalHost"),
        ],
    )
    def test_same_origin(self, origin: bytes, scheme: str, host: bytes) -> None:
        """
        A request from a page of this server is accepted.
        """
        assert refuse_origin(origin, None, scheme, host) is None

    @pytest.mark.parametrize(
        ("origin", "scheme", "host"),
        [
            (None, "http", b"localhost:8080"),
            (b"null", "http", b"localhost:8080"),
            (b"", "http", b"localhost:8080"),
            (b"http://example.org", "http", b"localhost:8080"),
            (b"http://localhost:8081", "http", b"localhost:8080"),
            (b"http://localhost", "http", b"localhost:8080"),
            (b"https://localhost:8080", "http", b"localhost:8080"),
            (b"http://localhost:443", "https", b"localhost:443"),
            (b"http://localhost:8080", "http", None),
            (b"http://127.0.0.1:8080", "http", b"localhost:8080"),
        ],
    )
    def test_another_origin(self, origin: bytes | None, scheme: str, host: bytes | None) -> None:
        """
        A request from another origin, or without an Origin, is refused.
        """
        refused = refuse_origin(origin, None, scheme, host)
        assert refused is not None
        assert refused.endswith(".") and "\n" not in refused

    def test_fetch_site_same_origin(self) -> None:
        """
        Sec-Fetch-Site: same-origin is sufficient, since behind a TLS proxy the schemes differ.
        """
        assert refuse_origin(b"https://localhost", b"same-origin", "http", b"localhost") is None

    @pytest.mark.parametrize("fetch_site", [b"same-site", b"cross-site", b"none", b""])
    def test_other_values_of_fetch_site(self, fetch_site: bytes) -> None:
        """
        Values of Sec-Fetch-Site other than same-origin are not sufficient: localhost:1 and localhost:2 are
        the same site.
        """
        assert refuse_origin(None, fetch_site, "http", b"localhost") is not None
