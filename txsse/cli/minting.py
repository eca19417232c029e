"""
Tokens made.

Strategy: :func:`read_keys`, :func:`choose_key` and :func:`make_claims` raise :exc:`Wrong`, which says in one
line what is wrong; what they return can be signed. What is granted is read the way a hub will read it, before
anything is signed.

Sources: https://www.rfc-editor.org/rfc/rfc9068, and the documents of Mercure, 1.0 and before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from txsse._extras import needs
from txsse.cli.key_options import KEY_ENVIRONMENT, Wrong
from txsse.mercure.auth.grants import DETAIL_TYPE, read_claim, read_details
from txsse.mercure.auth.keys import BadKey, Key, read_key, secret_key
from txsse.mercure.errors import InvalidToken
from txsse.mercure.selectors.matcher import PATTERN

with needs("mercure", "a token"):
    from jwt import PyJWS

__all__ = ["BASE", "Wanted", "choose_key", "make_claims", "read_keys", "sign"]

#: What stands for the hub's URL where patterns are relative to it: an audience may be any text. Whether they
#: can be patterns, does not depend on that.
BASE = "https://hub.example/.well-known/mercure"

# By RFC 7518, section 3.2, no shorter than the hash; for HS256 the key itself has seen to that.
_MIN_SECRETS = {"HS384": 48, "HS512": 64}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """
    What a token is to say.

    :ivar publish: the topics that it allows to publish to, as they are.
    :ivar publish_patterns: the same by URL patterns.
    :ivar subscribe: the topics whose private updates it allows to read, as they are.
    :ivar subscribe_patterns: the same by URL patterns.
    :ivar payload: what is told of subscriptions, as JSON; ``None`` for nothing.
    :ivar audience: who it is meant for.
    :ivar issuer: who makes it.
    :ivar subject: who it is given to.
    :ivar lifetime: how long it is good for, in seconds; ``None`` for ever.
    :ivar compat: whether it is one as they were before Mercure 1.0, where topics were URI templates.
    """

    publish: Sequence[str] = ()
    publish_patterns: Sequence[str] = ()
    subscribe: Sequence[str] = ()
    subscribe_patterns: Sequence[str] = ()
    payload: str | None = None
    audience: str | None = None
    issuer: str | None = None
    subject: str | None = None
    lifetime: int | None = 3600
    compat: bool = False


def read_keys(path: Path | None, environment: Mapping[str, str]) -> list[Key]:
    """
    Read the keys of a file, or the secret in the environment; return none where there is neither.

    :raises Wrong: for what is no key.
    """
    try:
        if path is not None:
            return read_key(path)
        secret = environment.get(KEY_ENVIRONMENT)
        return [secret_key(os.fsencode(secret))] if secret else []
    except BadKey as error:
        raise Wrong(str(error) if path is not None else f"{KEY_ENVIRONMENT}: {error}") from None


def choose_key(keys: Sequence[Key], algorithm: str | None, id: str | None) -> Key:
    """
    Return the key that signs, for the one algorithm that it signs with, and with the name that it goes by.

    :param keys: those that there are.
    :param algorithm: what to sign with; ``None`` for the first that the key is good for.
    :param id: the key's name; ``None`` for its own.
    :raises Wrong: where none of them can.
    """
    if not keys:
        raise Wrong(
            f"there is no key to sign with; name a file by --key, or put a secret into {KEY_ENVIRONMENT}"
        )
    signing = [key for key in keys if key.private is not None and key.algorithms]
    if not signing:
        raise Wrong("this key can verify, and not sign; give the private key, in PEM format")
    named = [key for key in signing if key.id == id] or [
        key for key in signing if key.id is None or id is None
    ]
    if not named:
        raise Wrong(f"none of the keys has the name {id}")
    fitting = [key for key in named if algorithm is None or algorithm in key.algorithms]
    if not fitting:
        good = ", ".join(dict.fromkeys(each for key in named for each in key.algorithms))
        raise Wrong(f"the key is not good for {algorithm}; it is for {good}")
    key = fitting[0]
    chosen = algorithm or key.algorithms[0]
    least = _MIN_SECRETS.get(chosen, 0)
    if len(key.private if least else b"") < least:
        raise Wrong(
            f"{chosen} wants a secret of at least {least} bytes; make one with: openssl rand -base64 {least}"
        )
    return replace(key, algorithms=(chosen,), id=id or key.id)


def make_claims(wanted: Wanted, now: float) -> dict[str, Any]:
    """
    Write the claims of a token.

    :param now: the time, in seconds since 1970.
    :raises Wrong: where no hub would take them.
    """
    if wanted.payload is not None and not (wanted.subscribe or wanted.subscribe_patterns):
        raise Wrong("--payload is told of subscriptions, and there is no --subscribe")
    issued = int(now)
    claims: dict[str, Any] = {
        "iss": wanted.issuer,
        "sub": wanted.subject,
        "aud": wanted.audience,
        "iat": issued,
        "exp": None if wanted.lifetime is None else issued + wanted.lifetime,
        "jti": f"urn:uuid:{uuid4()}",
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    return {**claims, **(_old_grants(wanted) if wanted.compat else _grants(wanted))}


def sign(claims: Mapping[str, Any], key: Key, *, compat: bool) -> str:
    """
    Sign a token.

    :param key: what :func:`choose_key` returned.
    """
    headers = {"typ": "JWT" if compat else "at+jwt"}
    if key.id is not None:
        headers["kid"] = key.id
    payload = json.dumps(claims, separators=(",", ":")).encode()
    return PyJWS().encode(payload, key.private, key.algorithms[0], headers=headers)


def _grants(wanted: Wanted) -> dict[str, Any]:
    if wanted.audience is None:
        raise Wrong("--audience is missing: the hub's URL, which the token is meant for; or --compat")
    if wanted.lifetime is None:
        raise Wrong(
            "a token that never expires was possible before Mercure 1.0 alone; give --compat, or a time"
        )
    details: list[dict[str, Any]] = []
    for action, topics, patterns in (
        ("publish", wanted.publish, wanted.publish_patterns),
        ("subscribe", wanted.subscribe, wanted.subscribe_patterns),
    ):
        matchers = [
            *({"match": topic} for topic in topics),
            *({"match": pattern, "match_type": PATTERN} for pattern in patterns),
        ]
        if matchers:
            details.append({"type": DETAIL_TYPE, "actions": [action], "topics": matchers})
            if action == "subscribe" and wanted.payload is not None:
                details[-1]["payload"] = _parse(wanted.payload)
    grants = {"authorization_details": details}
    try:
        read_details(grants, BASE)
    except InvalidToken as error:
        raise Wrong(f"no hub would take this token: {error.reason}") from None
    return grants


def _old_grants(wanted: Wanted) -> dict[str, Any]:
    if wanted.publish_patterns or wanted.subscribe_patterns:
        raise Wrong(
            "before Mercure 1.0 there were no URL patterns; give URI templates to --publish and --subscribe"
        )
    claim: dict[str, Any] = {}
    if wanted.publish:
        claim["publish"] = list(wanted.publish)
    if wanted.subscribe:
        claim["subscribe"] = list(wanted.subscribe)
    if wanted.payload is not None:
        claim["payload"] = _parse(wanted.payload)
    grants = {"mercure": claim}
    try:
        read_claim(grants, BASE)
    except InvalidToken as error:
        raise Wrong(f"no hub would take this token: {error.reason}") from None
    return grants


def _parse(payload: str) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        raise Wrong("--payload is no JSON") from None
