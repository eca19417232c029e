"""
Which token a request presents (Authorization header, cookie, query), which origins may publish with a cookie,
and the settings for both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from twisted.web.server import Request
from twisted.web.test.requesthelper import DummyChannel

from tests.mercure.world import PUBLISHER, URL, MercureWorld, old_token
from txsse.mercure.credentials import Credential, check_origin, find_credential
from txsse.mercure.errors import BadPresentation, BadRequest, Forbidden
from txsse.mercure.settings import COOKIE, OLD_COOKIE, Settings

CURRENT = Settings(url=URL)
COMPATIBLE = Settings(url=URL, compatibility=True)


def request_with(*fields: tuple[str, str | bytes], **query: list[bytes]) -> Request:
    """
    Return a request with these header fields and query parameters.
    """
    request: Any = Request(DummyChannel(), False)
    for name, value in fields:
        request.requestHeaders.addRawHeader(
            name.encode(), value if isinstance(value, bytes) else value.encode()
        )
    request.parseCookies()
    request.uri = b"/?" + b"&".join(
        name.encode() + b"=" + quote_from_bytes(value).encode()
        for name, values in query.items()
        for value in values
    )
    made: Request = request
    return made


def found(
    *fields: tuple[str, str | bytes], settings: Settings = CURRENT, **query: list[bytes]
) -> Credential | None:
    """
    Return the credential that a request with these fields and parameters presents.
    """
    return find_credential(request_with(*fields, **query), settings)


class HeaderTests:
    @pytest.mark.parametrize("written", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer   {}", "Bearer {}  "])
    @pytest.mark.parametrize("token", ["a", "a.b.c", "aZ09-._~+/==", PUBLISHER])
    def test_token(self, written: str, token: str) -> None:
        """
        The token follows the word Bearer, in upper or lower case.
        """
        assert found(("Authorization", written.format(token))) == Credential(token, by_cookie=False)

    @pytest.mark.parametrize(
        "value",
        [
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer a,b",
            'Bearer "a"',
            "Bearer\ta",
            "Bearer a\t",
            b"Bearer \xe9",
            "Bearer é",
            "bearer a;b",
            "Bearer \x00",
            "Bearer Bearer a",
        ],
    )
    def test_malformed(self, value: str | bytes) -> None:
        """
        A Bearer header without a valid token is an invalid request with status 400, even if a cookie holds a
        token.
        """
        with pytest.raises(BadPresentation, match="holds no token after Bearer") as raised:
            found(("Authorization", value), ("Cookie", f"{COOKIE}=c"))
        assert (raised.value.status, raised.value.error) == (400, "invalid_request")

    @pytest.mark.parametrize(
        "value", ["Basic YTpi", "basic", "Digest x", "Bearerx a", "Bearer,", "BearerBearer a", "", "DPoP x"]
    )
    def test_other_scheme(self, value: str) -> None:
        """
        An Authorization header with another scheme is ignored, so that a browser behind a proxy with Basic
        authentication still presents its cookie.
        """
        assert found(("Authorization", value)) is None
        cookie = ("Cookie", f"{COOKIE}=c")
        assert found(("Authorization", value), cookie) == Credential("c", by_cookie=True)

    @pytest.mark.parametrize(
        "values",
        [
            ("Bearer a", "Bearer a"),
            ("Bearer a", "Bearer b"),
            ("Basic YTpi", "Bearer a"),
            ("Basic YTpi", "Basic YTpi"),
            ("", ""),
        ],
    )
    def test_several(self, values: tuple[str, str]) -> None:
        """
        Two Authorization headers are rejected, because a proxy in front of the hub may have checked the other
        one.
        """
        with pytest.raises(BadPresentation, match="more than one Authorization"):
            found(*(("Authorization", value) for value in values))
        with pytest.raises(BadPresentation, match="more than one Authorization"):
            found(("authorization", values[0]), ("AUTHORIZATION", values[1]))

    def test_challenge(self, world: MercureWorld) -> None:
        """
        The response to a malformed Authorization header has status 400 and a challenge with the error
        invalid_request.
        """
        client = world.ask("POST", form=[("topic", "a")], headers={"Authorization": "Bearer a b"})
        assert client.status == 400
        assert client.headers["www-authenticate"].startswith('Bearer error="invalid_request", ')


class CookieTests:
    def test_token(self) -> None:
        """
        A token from the cookie is marked as such, because browsers send cookies without the page's intent.
        """
        assert found(("Cookie", f"x=y; {COOKIE}=a.b.c; z=1")) == Credential("a.b.c", by_cookie=True)

    @pytest.mark.parametrize(
        "value", ["", "x=y", f"{COOKIE}=", f"{COOKIE.lower()}=a", "mercure_access_token=a", COOKIE]
    )
    def test_none(self, value: str) -> None:
        """
        An empty cookie and a cookie of another name present no token.
        """
        assert found(("Cookie", value)) is None
        assert found() is None

    @pytest.mark.parametrize(
        "fields",
        [
            [f"{COOKIE}=good; {COOKIE}=stale"],
            [f"{COOKIE}=good", f"{COOKIE}=stale"],
            [f"{COOKIE}=good; {COOKIE}="],
            [f"{COOKIE}=good", f"{COOKIE}="],
            [f"{COOKIE}=good", f"{COOKIE}"],
            [f"{COOKIE}=; {COOKIE}=good"],
            [f'{COOKIE}=""', f"{COOKIE}=good"],
            ["a=b", f"c=d;{COOKIE}=good;e=f", f"{COOKIE}=stale"],
            [f"x{COOKIE}=other; {COOKIE.lower()}=other; {COOKIE}=good"],
            [f" \t{COOKIE}=good \t; {COOKIE}=stale"],
            [f'{COOKIE}="good"; {COOKIE}=stale'],
            [f"; ;=; {COOKIE}=good;"],
        ],
    )
    def test_several(self, fields: list[str]) -> None:
        """
        The first cookie with a value counts, because browsers send the cookie with the most specific path
        first.
        """
        given = [("Cookie", field) for field in fields]
        assert found(*given) == Credential("good", by_cookie=True)

    def test_value(self) -> None:
        """
        A cookie's value may contain = and single quotes, and an unpaired double quote is part of the value.
        """
        for value in ("a.b=", "a=b=c", "'a'", '"a', 'a"', '"'):
            assert found(("Cookie", f"{COOKIE}={value}; x=y")) == Credential(value, by_cookie=True)

    def test_stale(self, world: MercureWorld) -> None:
        """
        A stale cookie with a wider path does not hide the hub's own cookie.
        """
        headers = {"Cookie": f"{COOKIE}={PUBLISHER}; {COOKIE}=stale", "Origin": "https://hub.example"}
        assert world.ask("POST", form=[("topic", "a")], headers=headers).status == 200

    def test_other_name(self) -> None:
        """
        With a configured cookie name, only the cookie of that name counts.
        """
        named = Settings(url=URL, cookie="token")
        assert found(("Cookie", "token=a"), settings=named) == Credential("a", by_cookie=True)
        assert found(("Cookie", f"{COOKIE}=a"), settings=named) is None

    def test_bytes(self) -> None:
        """
        A cookie that is not ASCII yields an invalid token, not a failure.
        """
        assert found(("Cookie", f"{COOKIE}=".encode() + b"\xff.b")) == Credential("\ufffd.b", by_cookie=True)

    def test_with_the_header(self) -> None:
        """
        The Authorization header takes precedence over the cookie, which the browser adds by itself.
        """
        fields = [("Cookie", f"{COOKIE}=c"), ("Authorization", "Bearer h")]
        assert found(*fields) == Credential("h", by_cookie=False)


class OldTests:
    """
    How clients presented tokens before Mercure 1.0.
    """

    def test_query(self) -> None:
        """
        In compatibility mode the query may present a token; it takes precedence over the cookie, and the
        header over it.
        """
        header, cookie = ("Authorization", "Bearer h"), ("Cookie", f"{OLD_COOKIE}=c")
        assert found(cookie, settings=COMPATIBLE, authorization=[b"q"]) == Credential("q", by_cookie=False)
        assert found(header, cookie, settings=COMPATIBLE, authorization=[b"q"]) == Credential("h")
        assert found(cookie, settings=COMPATIBLE, authorization=[b""]) == Credential("c", by_cookie=True)
        with pytest.raises(BadRequest):
            found(settings=COMPATIBLE, authorization=[b"\xff"])

    def test_cookie(self) -> None:
        """
        In compatibility mode the old cookie name counts too, after the current one.
        """
        assert found(("Cookie", f"{OLD_COOKIE}=o"), settings=COMPATIBLE) == Credential("o", by_cookie=True)
        both = ("Cookie", f"{OLD_COOKIE}=o; {COOKIE}=c")
        assert found(both, settings=COMPATIBLE) == Credential("c", by_cookie=True)
        assert found(("Cookie", f"{OLD_COOKIE}=o; {COOKIE}="), settings=COMPATIBLE) == Credential(
            "o", by_cookie=True
        )

    def test_no_token(self) -> None:
        """
        In compatibility mode a request without a token presents none, and an empty query parameter is not a
        token.
        """
        assert found(settings=COMPATIBLE) is None
        assert found(settings=COMPATIBLE, authorization=[]) is None
        assert found(settings=COMPATIBLE, authorization=[b""]) is None
        request: Any = request_with()
        request.args = None
        assert find_credential(request, COMPATIBLE) is None

    def test_not_compatible(self) -> None:
        """
        Without compatibility mode the query, which servers log, and the old cookie present no token.
        """
        assert found(("Cookie", f"{OLD_COOKIE}=o"), authorization=[b"q"], access_token=[b"q"]) is None

    def test_access_token(self) -> None:
        """
        Even in compatibility mode the query parameter access_token presents no token.
        """
        assert found(settings=COMPATIBLE, access_token=[b"q"]) is None


class OriginTests:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(
            url="https://Hub.example/.well-known/mercure", publish_origins=["https://App.example:8443"]
        )

    @pytest.mark.parametrize(
        "fields",
        [
            [("Origin", "https://hub.example")],
            [("Origin", "HTTPS://HUB.example")],
            [("Origin", "https://app.example:8443")],
            [("Referer", "https://hub.example")],
            [("Referer", "https://hub.example/")],
            [("Referer", "https://hub.example/a/b?c#d")],
            [("Referer", "https://HUB.example?x")],
            [("Referer", "https://app.example:8443/x")],
            # If a request has an Origin, its Referer does not count.
            [("Origin", "https://hub.example"), ("Referer", "https://evil.example/")],
        ],
    )
    def test_allowed(self, settings: Settings, fields: list[tuple[str, str]]) -> None:
        """
        Pages of the hub's own origin and of the origins in publish_origins may publish with a cookie.
        """
        check_origin(request_with(*fields), settings)

    @pytest.mark.parametrize(
        "fields",
        [
            [],
            [("Origin", "")],
            [("Origin", "null")],
            [("Origin", "*")],
            [("Origin", "://")],
            [("Origin", "https://evil.example")],
            [("Origin", "http://hub.example")],
            [("Origin", "https://hub.example:8443")],
            [("Origin", "https://hub.example/")],
            [("Origin", "https://app.example")],
            [("Origin", "https://app.example:443")],
            [("Origin", "https://x.hub.example")],
            [("Origin", "https://hub.example.evil.example")],
            [("Origin", "https://hub.example, https://evil.example")],
            [("Origin", b"https://hub.example\xff")],
            [("Referer", "")],
            [("Referer", "/")],
            [("Referer", "about:blank")],
            [("Referer", "hub.example")],
            [("Referer", "//hub.example/")],
            [("Referer", "https://evil.example/https://hub.example/")],
            [("Referer", "https://hub.example@evil.example/")],
            [("Referer", "https://hub.example:x@evil.example/")],
            [("Referer", "https://evil.example?https://hub.example")],
            [("Referer", "https://evil.example#@hub.example")],
            [("Referer", "https://evil.example\\@hub.example/")],
            [("Referer", "https://hub.example.evil.example/")],
            [("Referer", "http://hub.example/")],
            # Invalid URLs.
            [("Referer", "https://[hub.example/")],
            [("Referer", "https://[::1/")],
            [("Referer", b"https://\xff/")],
            [("Origin", "https://evil.example"), ("Referer", "https://hub.example/")],
            [("Origin", "null"), ("Referer", "https://hub.example/")],
            [("Origin", ""), ("Referer", "https://hub.example/")],
        ],
    )
    def test_refused(self, settings: Settings, fields: list[tuple[str, str]]) -> None:
        """
        A page of any other origin, and a request without an origin, may not publish with a cookie.
        """
        with pytest.raises(Forbidden, match="this origin may not publish with a cookie"):
            check_origin(request_with(*fields), settings)

    @pytest.mark.parametrize(
        ("url", "origin"),
        [
            ("https://hub.example:443/hub", "https://hub.example"),
            ("http://hub.example:80/", "http://hub.example"),
            ("https://hub.example:80/", "https://hub.example:80"),
            ("http://hub.example:443/", "http://hub.example:443"),
            ("https://hub.example:8443/", "https://hub.example:8443"),
            ("https://[::1]:443/", "https://[::1]"),
            ("https://[::443]/", "https://[::443]"),
        ],
    )
    def test_port(self, url: str, origin: str) -> None:
        """
        A scheme's default port equals no port when origins are compared, as browsers omit it.
        """
        check_origin(request_with(("Origin", origin)), Settings(url=url))
        check_origin(request_with(("Referer", f"{origin}/x")), Settings(url=url))

    def test_null(self) -> None:
        """
        Pages of the origin "null" may publish with a cookie only if publish_origins lists it.
        """
        check_origin(request_with(("Origin", "null")), Settings(url=URL, publish_origins=["null"]))

    def test_readers(self) -> None:
        """
        An origin that may read (origins) may not publish with a cookie unless publish_origins lists it too.
        """
        with pytest.raises(Forbidden):
            check_origin(
                request_with(("Origin", "https://a.example")),
                Settings(url=URL, origins=["https://a.example"]),
            )

    def test_publishing(self, world: MercureWorld) -> None:
        """
        The hub checks the origin of a publication only if its token is in a cookie, since another site's page
        cannot send the header.
        """
        cookie = {"Cookie": f"{COOKIE}={PUBLISHER}"}
        evil = {"Origin": "https://evil.example"}
        form = [("topic", "a")]
        assert world.ask("POST", form=form, headers=cookie | {"Origin": "https://hub.example"}).status == 200
        assert world.ask("POST", form=form, headers=cookie | evil).status == 403
        assert world.ask("POST", form=form, headers=cookie).status == 403
        assert world.ask("POST", form=form, headers=cookie | {"Referer": "https://[x"}).status == 403
        assert world.ask("POST", form=form, headers=evil, token=PUBLISHER).status == 200

    def test_publishing_with_an_old_cookie(self, new: Callable[..., MercureWorld]) -> None:
        """
        The hub also checks the origin of a publication whose token is in the old cookie.
        """
        world = new(compatibility=True)
        headers = {"Cookie": f"{OLD_COOKIE}={old_token(publish=['*'])}"}
        assert world.ask("POST", form=[("topic", "a")], headers=headers).status == 403
        headers["Origin"] = "https://hub.example"
        assert world.ask("POST", form=[("topic", "a")], headers=headers).status == 200


class SettingsTests:
    @pytest.mark.parametrize(
        "url",
        [
            "",
            "/hub",
            "hub.example",
            "ftp://hub.example/",
            "https://",
            "https:///x",
            "https://a/?x",
            "https://a/#x",
        ],
    )
    def test_no_url(self, url: str) -> None:
        """
        The hub's URL must be absolute, with the scheme http or https and without a query or fragment.
        """
        with pytest.raises(ValueError, match="is not the URL of a hub; an example is https://example"):
            Settings(url=url)

    @pytest.mark.parametrize(
        ("url", "path"),
        [("https://a", "/"), ("https://a/", "/"), ("https://a/hub", "/hub"), ("https://a/b/hub/", "/b/hub")],
    )
    def test_path(self, url: str, path: str) -> None:
        """
        A slash at the end of the hub's URL is not part of its path.
        """
        assert Settings(url=url).path == path

    def test_origins(self) -> None:
        """
        Configured origins are normalised as browsers write them, and a value that is not an origin is
        rejected because it would never match.
        """
        settings = Settings(url=URL, publish_origins=["HTTPS://Bücher.example:443"])
        check_origin(request_with(("Origin", "https://xn--bcher-kva.example")), settings)
        with pytest.raises(ValueError, match=r"publish_origins: 'https://a\.example/' is not an origin"):
            Settings(url=URL, publish_origins=["https://a.example/"])

    @pytest.mark.parametrize("lifetime", [0, -1, float("inf"), float("nan")])
    def test_revocation_lifetime(self, lifetime: float) -> None:
        """
        Revoked tokens are refused for a positive number of seconds.
        """
        with pytest.raises(ValueError, match="revocation_lifetime must be a positive number of seconds"):
            Settings(url=URL, revocation_lifetime=lifetime)
        with pytest.raises(TypeError, match="revocation_lifetime must be a number of seconds"):
            Settings(url=URL, revocation_lifetime="30d")  # type: ignore[arg-type]

    def test_key_claim(self) -> None:
        """
        The name of a claim that cannot have the key of a session is rejected.
        """
        assert Settings(url=URL).key_claim == "sid"
        with pytest.raises(ValueError, match="key_claim: 'aud' is not the name of a claim"):
            Settings(url=URL, key_claim="aud")

    @pytest.mark.parametrize("name", ["audience", "algorithms", "origins", "publish_origins", "issuers"])
    def test_string_for_a_list(self, name: str) -> None:
        """
        A single string for a list setting is rejected, and the error shows the list with that one string.
        """
        given: Any = {name: "abc"}
        one = "https://a.example"
        with pytest.raises(
            ValueError, match=rf"{name} must be a list of strings, not a single one: \['abc'\]"
        ):
            Settings(url=URL, **given)
        assert getattr(Settings(url=URL, **{name: iter([one])}), name) == (one,)  # type: ignore[arg-type]
