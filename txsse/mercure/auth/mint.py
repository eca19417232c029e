"""
Makes and signs tokens for clients of a hub, with the hub's key.

Strategy: :func:`make_claims` reads the grants as a hub reads them, so every hub accepts the claims that it
returns; :func:`sign` only signs.

Sources: https://www.rfc-editor.org/rfc/rfc9068, and the Mercure specification, 1.0 and before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from txsse._extras import needs
from txsse._serialize import to_json
from txsse.mercure.auth.grants import (
    DETAIL_TYPE,
    DISCONNECT,
    OWN_DETAIL_TYPE,
    read_claim,
    read_details,
)
from txsse.mercure.auth.identity import KEY_CLAIM, read_identity
from txsse.mercure.auth.keys import ALGORITHMS, PrivateKey
from txsse.mercure.errors import InvalidToken
from txsse.mercure.selectors.matcher import PATTERN

with needs("mercure", "a token"):
    from jwt import PyJWS

__all__ = ["BASE", "InvalidClaims", "RequestedClaims", "make_claims", "make_token", "sign"]

#: The URL that relative patterns are resolved against here, since an audience may be any text. Whether a
#: pattern is valid does not depend on it.
BASE = "https://hub.example/.well-known/mercure"

_DEFAULT = ALGORITHMS[0]


class InvalidClaims(ValueError):
    """
    No hub would accept a token with these claims.
    """


@dataclass(frozen=True, kw_only=True)
class RequestedClaims:
    """
    The claims that a token is to have.

    :ivar publish: the topics that it allows publishing to; ``*`` for all.
    :ivar publish_patterns: the same, as URL patterns.
    :ivar subscribe: the topics whose private updates it allows reading; ``*`` for all.
    :ivar subscribe_patterns: the same, as URL patterns.
    :ivar disconnect: whether it allows disconnecting clients and revoking their tokens.
    :ivar payload: what the hub discloses about the client's subscriptions; ``None`` for nothing.
    :ivar audience: the hub's URL.
    :ivar issuer: the name of the token's issuer.
    :ivar subject: the name of the client that the token is for.
    :ivar issued: the time of issue, in seconds since 1970; ``None`` to omit it.
    :ivar expires: when it expires, in seconds since 1970; ``None`` for never, which only tokens from before
        Mercure 1.0 allow.
    :ivar compatibility: whether it is a token from before Mercure 1.0, in which topics may be URI templates.
    """

    publish: Iterable[str] = ()
    publish_patterns: Iterable[str] = ()
    subscribe: Iterable[str] = ()
    subscribe_patterns: Iterable[str] = ()
    disconnect: bool = False
    payload: object = None
    audience: str | Sequence[str] | None = None
    issuer: str | None = None
    subject: str | None = None
    issued: float | None = None
    expires: float | None = None
    compatibility: bool = False


def make_token(
    key: PrivateKey | str | bytes,
    *,
    audience: str | Sequence[str],
    expires: float,
    publish: Iterable[str] = (),
    subscribe: Iterable[str] = (),
    disconnect: bool = False,
    algorithm: str = _DEFAULT,
) -> str:
    """
    Make a Mercure 1.0 token.

    :param key: the secret, or the private key.
    :param audience: the hub's URL.
    :param expires: when it expires, in seconds since 1970.
    :param publish: the topics that it allows publishing to; ``*`` for all.
    :param subscribe: the topics whose private updates it allows reading; ``*`` for all.
    :param disconnect: whether it allows disconnecting clients and revoking their tokens.
    :param algorithm: the algorithm to sign with.
    :raises InvalidClaims: for topics that no hub would accept.
    """
    requested = RequestedClaims(
        audience=audience, expires=expires, publish=publish, subscribe=subscribe, disconnect=disconnect
    )
    return sign(make_claims(requested), key, algorithm)


def make_claims(requested: RequestedClaims) -> dict[str, object]:
    """
    Return the claims of a token.

    :raises InvalidClaims: if no hub would accept them.
    """
    claims: dict[str, object] = {
        "iss": requested.issuer,
        "sub": requested.subject,
        "aud": requested.audience,
        "iat": _whole(requested.issued),
        "exp": _whole(requested.expires),
        "jti": f"urn:uuid:{uuid4()}",
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    try:
        if requested.compatibility:
            claims["mercure"] = _write_claim(requested)
            read_claim(claims, BASE)
        else:
            for name in ("aud", "exp"):
                if name not in claims:
                    raise InvalidClaims(f"a token of Mercure 1.0 needs {name}")
            claims["authorization_details"] = _write_details(requested)
            read_details(claims, BASE)
        read_identity(claims, KEY_CLAIM)
    except InvalidToken as error:
        raise InvalidClaims(f"no hub would accept this token: {error.reason}") from None
    return claims


def sign(
    claims: Mapping[str, object], key: PrivateKey | str | bytes, algorithm: str, *, key_id: str | None = None
) -> str:
    """
    Return a signed token.

    :param claims: the claims, from :func:`make_claims`.
    :param key: the secret, or the private key.
    :param algorithm: the algorithm to sign with.
    :param key_id: the ``kid`` by which the hub knows the key; ``None`` to omit it.
    """
    headers = {"typ": "JWT" if "mercure" in claims else "at+jwt"}
    if key_id is not None:
        headers["kid"] = key_id
    return PyJWS().encode(to_json(claims).encode(), key, algorithm, headers=headers)


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _write_details(requested: RequestedClaims) -> list[dict[str, object]]:
    details: list[dict[str, object]] = []
    for action, topics, patterns in (
        ("publish", requested.publish, requested.publish_patterns),
        ("subscribe", requested.subscribe, requested.subscribe_patterns),
    ):
        matchers = [
            *({"match": topic} for topic in topics),
            *({"match": pattern, "match_type": PATTERN} for pattern in patterns),
        ]
        if matchers:
            details.append({"type": DETAIL_TYPE, "actions": [action], "topics": matchers})
            if action == "subscribe" and requested.payload is not None:
                details[-1]["payload"] = requested.payload
    if requested.disconnect:
        details.append({"type": OWN_DETAIL_TYPE, "actions": [DISCONNECT]})
    return details


def _write_claim(requested: RequestedClaims) -> dict[str, object]:
    if requested.publish_patterns or requested.subscribe_patterns:
        raise InvalidClaims("before Mercure 1.0 there were no URL patterns; give URI templates as topics")
    if requested.disconnect:
        raise InvalidClaims("a token from before Mercure 1.0 cannot allow disconnecting clients")
    topics = {"publish": list(requested.publish), "subscribe": list(requested.subscribe)}
    claim: dict[str, object] = {action: listed for action, listed in topics.items() if listed}
    return claim if requested.payload is None else {**claim, "payload": requested.payload}
