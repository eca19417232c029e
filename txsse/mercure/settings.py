"""
What a hub of Mercure's is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from txsse._redact import without_secrets
from txsse.mercure.auth.keys import ALGORITHMS
from txsse.mercure.auth.verify import Issuer
from txsse.web.origin import DEFAULT_PORTS, origin_of, parse_origin

__all__ = ["COOKIE", "OLD_COOKIE", "PATH", "Settings"]

#: Where a hub is, unless it says something else.
PATH = "/.well-known/mercure"

#: The cookie that a browser presents its token in.
COOKIE = "__Secure-mercure_access_token"

#: The same before Mercure 1.0.
OLD_COOKIE = "mercureAuthorization"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    What a hub of Mercure's is told.

    :ivar url: the hub's URL, as clients see it.
    :ivar issuers: who makes tokens. Without any, nobody can publish.
    :ivar audience: what tokens have to be meant for: any of these; without any, the URL.
    :ivar algorithms: what tokens may be signed with.
    :ivar anonymous: whether subscribers without a token are let in. They never see a private update.
    :ivar origins: the origins whose pages may ask for something at all; the hub's own may.
    :ivar publish_origins: those of them whose pages may publish by a cookie, and not only by a token that
        they have themselves; the hub's own may.
    :ivar cookie: the name of the cookie.
    :ivar subscriptions: whether subscriptions are told of, and listed.
    :ivar compatibility: whether clients and tokens from before Mercure 1.0 are understood, too.
    :ivar max_body: how many bytes a publication may have.
    :ivar max_matchers: how many matchers a subscription may have.
    :ivar max_topics: how many topics an update may have.
    :raises ValueError: for a URL that is none, and for what is no origin.
    """

    url: str
    issuers: Iterable[Issuer] = ()
    audience: Iterable[str] = ()
    algorithms: Iterable[str] = ALGORITHMS
    anonymous: bool = False
    origins: Iterable[str] = ()
    publish_origins: Iterable[str] = ()
    cookie: str = COOKIE
    subscriptions: bool = True
    compatibility: bool = False
    max_body: int = 1024 * 1024
    max_matchers: int = 100
    max_topics: int = 100
    path: str = field(init=False)
    origin: str = field(init=False)

    def __post_init__(self) -> None:
        for name in ("issuers", "audience", "algorithms", "origins", "publish_origins"):
            given = getattr(self, name)
            if isinstance(given, str):
                raise ValueError(f"{name} must be a list of strings, not a single one: [{given!r}]")
            object.__setattr__(self, name, tuple(given))
        parts = urlsplit(self.url)
        if parts.scheme not in DEFAULT_PORTS or not parts.netloc or parts.query or parts.fragment:
            raise ValueError(f"{self.url!r} is no URL of a hub; one is https://example.org{PATH}")
        object.__setattr__(self, "path", parts.path.rstrip("/") or "/")
        object.__setattr__(self, "origin", _read_origin(origin_of, self.url, "url"))
        publishing = tuple(
            _read_origin(partial(parse_origin, allow_null=True), each, "publish_origins")
            for each in self.publish_origins
        )
        object.__setattr__(self, "publish_origins", publishing)


def _read_origin(read: Callable[[str], str], text: str, name: str) -> str:
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"{name}: {without_secrets(text)!r} is {error}") from None
