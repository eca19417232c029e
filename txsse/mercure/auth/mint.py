"""
Tokens for those who have the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import uuid4

import jwt

from txsse.mercure.auth.grants import DETAIL_TYPE
from txsse.mercure.auth.keys import ALGORITHMS

__all__ = ["make_token"]

_DEFAULT = ALGORITHMS[0]


def make_token(
    key: object,
    *,
    audience: str | Sequence[str],
    expires: float,
    publish: Iterable[str] = (),
    subscribe: Iterable[str] = (),
    algorithm: str = _DEFAULT,
) -> str:
    """
    Make a token of Mercure 1.0.

    :param key: the secret, or the private key.
    :param audience: the URL of the hub.
    :param expires: until when it is good, in seconds since 1970.
    :param publish: the topics that may be published to; ``*`` for all.
    :param subscribe: the topics whose private updates may be read.
    :param algorithm: what to sign it with.
    """
    granted = (("publish", publish), ("subscribe", subscribe))
    details = [
        {"type": DETAIL_TYPE, "actions": [action], "topics": [{"match": topic} for topic in topics]}
        for action, topics in granted
        if topics
    ]
    claims = {"aud": audience, "exp": int(expires), "jti": str(uuid4()), "authorization_details": details}
    return jwt.encode(claims, key, algorithm, headers={"typ": "at+jwt"})  # type: ignore[arg-type]
