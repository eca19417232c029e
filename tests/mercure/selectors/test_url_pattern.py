"""
Tests of URL patterns: which topics they match, and which patterns are too expensive.
"""

from __future__ import annotations

import gc

import pytest

from tests.mercure.world import URL
from txsse.mercure.selectors import url_pattern as patterns
from txsse.mercure.selectors.url_pattern import MAX_WEIGHT, PatternSelector, path_pattern, weight_of


def matches(pattern: str, topic: str) -> bool:
    return PatternSelector(pattern, URL).matches(topic)


class MatchingTests:
    @pytest.mark.parametrize(
        ("pattern", "topic"),
        [
            ("https://a.example/books/:id", "https://a.example/books/1"),
            ("https://a.example/books/:id", "https://a.example/books/1?x=1"),
            ("https://a.example/books/*", "https://a.example/books/"),
            ("https://a.example/books/*", "https://a.example/books/1/2"),
            ("https://a.example/books/:id?", "https://a.example/books"),
            (r"https://a.example/(\d+)", "https://a.example/123"),
            ("https://*.example/", "https://a.b.example/"),
            ("http{s}?://a.example/", "http://a.example/"),
            ("*://a.example/", "ftp://a.example/"),
            ("https://a.example/x?y=:z", "https://a.example/x?y=1"),
            ("https://a.example:8443/", "https://a.example:8443/"),
            # The host ignores case, and the default port is left out.
            ("https://a.example/x", "https://A.EXAMPLE/x"),
            ("https://A.Example/x", "https://a.example/x"),
            ("https://a.example/x", "HTTPS://a.example:443/x"),
            # Patterns and topics are normalised as URLs.
            ("https://a.example/é", "https://a.example/%C3%A9"),
            ("https://a.example/a/c", "https://a.example/a/b/../c"),
            ("https://bücher.example/", "https://xn--bcher-kva.example/"),
            # Relative patterns and topics are resolved against the hub's URL.
            ("/books/:id", "/books/1"),
            ("/books/:id", "https://hub.example/books/1"),
            ("/books/:id", "//hub.example/books/1"),
            ("https://hub.example/books/:id", "/books/1"),
            ("https://hub.example/.well-known/:x", "x"),
            ("/.well-known/:x", "x"),
        ],
    )
    def test_selected(self, pattern: str, topic: str) -> None:
        """
        A URL pattern selects these topics.
        """
        assert matches(pattern, topic)

    @pytest.mark.parametrize(
        ("pattern", "topic"),
        [
            ("https://a.example/books/:id", "https://a.example/books/"),
            ("https://a.example/books/:id", "https://a.example/books/1/2"),
            ("https://a.example/books/:id", "http://a.example/books/1"),
            ("https://a.example/books/:id", "https://b.example/books/1"),
            ("https://a.example/books/:id", "https://a.example.evil.example/books/1"),
            ("https://a.example/books/:id", "https://a.example@evil.example/books/1"),
            ("https://a.example/books/:id", "https://a.example:8443/books/1"),
            # Every part except the host is case-sensitive.
            ("https://a.example/books/:id", "https://a.example/Books/1"),
            ("https://a.example/x?y=:z", "https://a.example/x?Y=1"),
            (r"https://a.example/(\d+)", "https://a.example/12a"),
            ("/books/:id", "https://a.example/books/1"),
            ("/books/:id", "books/1"),
            # These are not URLs, not even relative ones.
            ("*://*/*", "https://[broken"),
            ("https://*", "https://"),
            ("/*", "http://a b/"),
            ("/*", "https://a.example:99999/"),
        ],
    )
    def test_not_selected(self, pattern: str, topic: str) -> None:
        """
        A URL pattern does not select these topics.
        """
        assert not matches(pattern, topic)

    def test_wildcard(self) -> None:
        """
        A star within a URL pattern selects only topics that are URLs.
        """
        assert matches("*://*/*", "https://a.example/b")
        assert not matches("*://*/*", "urn:a")


class BadTests:
    @pytest.mark.parametrize(
        "pattern", ["/(", "/)(", "/{", "/(?=a)", "/(a(b))", "/([)", "https://[", "/:a/:a"]
    )
    def test_no_pattern(self, pattern: str) -> None:
        """
        A text that is not a URL pattern is refused.
        """
        with pytest.raises(ValueError):
            PatternSelector(pattern, URL)

    @pytest.mark.parametrize(
        "pattern",
        [
            "/(a{5000})",
            "/(a{1,5000})",
            "/(a{5000,})",
            "/(a{0,5000})",
            "/((?:a{100}){100})",
            "/(a{20}{20}{20})",
            # The engine allows spaces in a count.
            "/(a{ 5000 })",
            "/(a{1 , 5000})",
            "/((?x)a{5 0 0 0})",
            "/(a{\u20035000})",
            r"/(.{100})",
            r"/([^a]{100})",
            r"/(\W{100})",
            r"/(.{ 100 })",
            r"/((?:.{9}){9})",
            r"/(\p{L})",
            r"/(\PL)",
            r"/([\p{L}])",
            r"/((?i)[^a]{20})",
            r"/((?x)a)",
            r"{/(.{40})}*",
            r"/(.{40})+",
            r"/([^]a]{100})",
            "/:a" * 21,
            "/*" * 21,
            "/(a)" * 21,
            "/((?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:a))))))))))))))))))))",
            "x" * (MAX_WEIGHT + 1),
        ],
    )
    def test_expensive(self, pattern: str) -> None:
        """
        An expensive URL pattern is refused before it is compiled, and the error names what to use less.
        """
        with pytest.raises(ValueError, match="too long to match; use fewer groups, classes and repetitions"):
            PatternSelector(pattern, URL)

    @pytest.mark.parametrize(
        "pattern",
        [
            "/(a{400})",
            r"/(\d{4}-\d{2}-\d{2})",
            r"/(\d{4})/(\d{2})/(\d\d)",
            r"/(\w{9})",
            r"/(\w\w\w\w\w\w\w\w\w\w)",
            r"/(\w{100})",
            r"/(\d{100})",
            r"/((?:\d{9}){3})",
            r"/([^\W]{10})",
            r"/([\w.~-]+)/(\d+)",
            "".join(f"/:a{number}" for number in range(20)),
            "/*" * 20,
            "/(a+)+",
            "/((?:a+)+b)",
            "x" * 2048,
        ],
    )
    def test_not_expensive(self, pattern: str) -> None:
        """
        Common URL patterns are accepted, and can test a topic of any length.
        """
        assert matches(pattern, "https://hub.example/" + "a" * 20_000) in (True, False)

    def test_weight(self) -> None:
        """
        The weight of a URL pattern grows with its length and its groups, which count twice if they are
        repeated.
        """
        assert weight_of("") == 600
        assert weight_of("/a") == 602
        assert weight_of("/:a") == 600 + 3 + 55
        assert weight_of("/:a*") == 600 + 4 + 2 * 2 * 55
        assert weight_of("/(a)") == 600 + 4 + 55 + 6
        assert weight_of("/(a)+") == 600 + 5 + 2 * (55 + 6)
        assert weight_of("{/(a)}*") == 600 + 7 + 2 * (2 * 55 + 6)
        assert weight_of(r"/(\w)") == weight_of("/([0-9A-Za-z_])") - 10


class SharedTests:
    def test_shared(self) -> None:
        """
        Selectors with the same URL pattern and base share its compiled form.
        """
        one, two = PatternSelector("/shared/:a", URL), PatternSelector("/shared/:a", URL)
        assert one._compiled is two._compiled
        assert PatternSelector("/shared/:a", "https://a.example/")._compiled is not one._compiled

    @pytest.mark.slow
    def test_forgotten(self) -> None:
        """
        A compiled URL pattern that no selector uses is not kept in memory.
        """
        kept = PatternSelector("/kept", URL)
        # Compiled patterns of other tests are removed first.
        gc.collect()
        before = len(patterns._in_use)
        for number in range(100):
            PatternSelector(f"/{number}", URL)
        gc.collect()
        assert len(patterns._in_use) == before
        assert kept.matches("/kept")


class EqualityTests:
    def test_equal(self) -> None:
        """
        Selectors with the same URL pattern and base are equal.
        """
        one, two = PatternSelector("/:a", URL), PatternSelector("/:a", URL)
        assert one == two
        assert hash(one) == hash(two)
        assert len({one, two, PatternSelector("/:b", URL), PatternSelector("/:a", "https://a.example/")}) == 3
        assert one != "/:a"
        assert repr(one) == f"PatternSelector('/:a', {URL!r})"


class PathPatternTests:
    @pytest.mark.parametrize("path", ["/a-b/c.d_~1", "/.well-known/mercure"])
    def test_path(self, path: str) -> None:
        """
        A path pattern matches the path and the paths below it, with any origin and percent-encoding, and no
        other path.
        """
        pattern = path_pattern(path)
        encoded = "".join(it if it == "/" else f"%{ord(it):02X}" for it in path)
        for spelled in (
            path,
            encoded,
            encoded.lower(),
            f"/x/..{path}",
            f"{path}/",
            f"{path}/x/y",
            f"{path}?x",
            f"{path}#x",
        ):
            assert pattern.test(spelled, URL), spelled
            assert pattern.test(f"http://a.example:1{spelled}"), spelled
        for other in (
            path + "x",
            path[:-1],
            f"/x{path}",
            path.replace("/", "%2F"),
            path.upper(),
            path.replace(".", "x"),
            "/",
        ):
            assert not pattern.test(f"https://hub.example{other}"), other
