"""
The settings of a Mercure hub, and their validation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from urllib.parse import urlsplit

from txsse._arguments import check_number
from txsse._redact import without_secrets
from txsse.mercure.auth.identity import KEY_CLAIM, check_key_claim
from txsse.mercure.auth.keys import ALGORITHMS
from txsse.mercure.auth.verify import Issuer
from txsse.web.origin import DEFAULT_PORTS, origin_of, parse_origin

__all__ = ["COOKIE", "OLD_COOKIE", "PATH", "RETAINED_PER_TOKEN", "REVOCATION_LIFETIME", "Settings"]

#: The default path of a hub.
PATH = "/.well-known/mercure"

#: The default name of the cookie that holds a browser's token.
COOKIE = "__Secure-mercure_access_token"

#: The name of that cookie before Mercure 1.0.
OLD_COOKIE = "mercureAuthorization"

#: How long a token that has no open stream is assumed to be valid when it is revoked, in seconds: 30 days.
REVOCATION_LIFETIME = 30 * 86400.0

#: The default quota of retained updates: ten publishers that use theirs up fill a journal.
RETAINED_PER_TOKEN = 10_000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    The settings of a Mercure hub.

    :ivar url: the hub's URL, as clients see it.
    :ivar issuers: the issuers of tokens. Without any, no client can publish.
    :ivar audience: the accepted audiences (``aud``): a token must name one of them. Without any, it must name
        the URL.
    :ivar algorithms: the algorithms that tokens may be signed with.
    :ivar anonymous: whether clients may subscribe without a token. They never receive private updates.
    :ivar origins: the origins whose pages may send requests to the hub (CORS); the hub's own origin always
        may.
    :ivar publish_origins: the origins whose pages may publish with a cookie, and not only with a token that
        the page has; the hub's own origin always may.
    :ivar cookie: the name of the cookie that holds a token.
    :ivar subscriptions: whether the hub publishes subscription events and serves the subscription API.
    :ivar compatibility: whether the hub also accepts clients and tokens from before Mercure 1.0.
    :ivar key_claim: the name of the claim with the key of a session, by which streams can be disconnected and
        tokens revoked, as by ``sub`` and ``jti``.
    :ivar revocation_lifetime: how long revoked tokens are refused at least, in seconds, if the request to
        revoke them does not say so: as long as issuers let tokens live.
    :ivar max_body: the maximum size of a publish request's body, in bytes.
    :ivar max_matchers: the maximum number of matchers of a subscription.
    :ivar max_topics: the maximum number of topics of an update.
    :ivar retained_per_token: the maximum number of retained updates of one publisher: of the tokens with one
        ``sub``; or one ``jti``, if they have no ``sub``; or of one token. An update that is retained under
        two topics counts twice. ``None`` for no limit.
    :raises ValueError: if the URL, an origin or the name of a claim is not valid, for a
        ``revocation_lifetime`` that is not positive, and for a ``retained_per_token`` below 1.
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
    key_claim: str = KEY_CLAIM
    revocation_lifetime: float = REVOCATION_LIFETIME
    max_body: int = 1024 * 1024
    max_matchers: int = 100
    max_topics: int = 100
    retained_per_token: int | None = RETAINED_PER_TOKEN
    path: str = field(init=False)
    origin: str = field(init=False)

    def __post_init__(self) -> None:
        for name in ("issuers", "audience", "algorithms", "origins", "publish_origins"):
            given = getattr(self, name)
            if isinstance(given, str):
                raise ValueError(f"{name} must be a list of strings, not a single one: [{given!r}]")
            object.__setattr__(self, name, tuple(given))
        try:
            check_key_claim(self.key_claim)
        except ValueError as error:
            raise ValueError(f"key_claim: {error}") from None
        check_number("revocation_lifetime", self.revocation_lifetime, "a number of seconds")
        if not 0 < self.revocation_lifetime < inf:
            raise ValueError(
                f"revocation_lifetime must be a positive number of seconds, not {self.revocation_lifetime!r}"
            )
        if self.retained_per_token is not None:
            check_number("retained_per_token", self.retained_per_token, "a whole number", whole=True)
            if self.retained_per_token < 1:
                raise ValueError(f"retained_per_token must be at least 1, not {self.retained_per_token}")
        parts = urlsplit(self.url)
        if parts.scheme not in DEFAULT_PORTS or not parts.netloc or parts.query or parts.fragment:
            raise ValueError(f"{self.url!r} is not the URL of a hub; an example is https://example.org{PATH}")
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
