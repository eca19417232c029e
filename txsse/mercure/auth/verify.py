"""
Verifies tokens: the signature, the issuer, the audience and the times; and returns their grants.

Sources: https://www.rfc-editor.org/rfc/rfc9068, https://www.rfc-editor.org/rfc/rfc8725
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from jwt import PyJWS
from jwt.exceptions import PyJWTError
from twisted.logger import Logger

from txsse.mercure.auth.grants import Grants, read_claim, read_details
from txsse.mercure.auth.identity import KEY_CLAIM, read_identity
from txsse.mercure.auth.keys import ALGORITHMS, Key, secret_key
from txsse.mercure.auth.token_cache import CachedToken, TokenCache
from txsse.mercure.errors import InvalidToken, Unavailable

__all__ = ["FixedKeys", "IKeys", "IRevoked", "Issuer", "Role", "Verifier", "shared_secret"]

_log = Logger()

Role = Literal["publish", "subscribe"]

# No honest issuer makes longer tokens.
_MAX_LENGTH = 16384

# How far an issuer's clock may be ahead of the hub's, in seconds.
_LEEWAY = 30.0

# Later values are not times; neither are NaN, nor numbers that exceed a float.
_MAX_TIME = 1e12


class IKeys(Protocol):
    """
    A source of keys.

    :ivar version: increases whenever the keys change.
    """

    version: int

    @property
    def known(self) -> bool:
        """
        Whether the source has ever had keys. Until then, every token gets a 503 instead of a 401.
        """

    async def find(self, id: str | None) -> Sequence[Key]:
        """
        Return all keys of the source.

        :param id: the ``kid`` of a token; ``None`` if it has none. If no key has this ID, a source that
            fetches its keys may fetch them again.
        """


class IRevoked(Protocol):
    """
    The tokens that have been revoked.
    """

    async def check(self, grants: Grants) -> None:
        """
        Check that a token has not been revoked.

        :raises InvalidToken: if it has been.
        :raises Unavailable: if this is unknown at the moment.
        """


class FixedKeys:
    """
    Keys that never change.
    """

    known = True

    def __init__(self, keys: Iterable[Key]) -> None:
        self.version = 0
        self._keys = tuple(keys)

    async def find(self, id: str | None) -> Sequence[Key]:
        """
        Return the keys.
        """
        return self._keys


@dataclass(frozen=True)
class Issuer:
    """
    An issuer of tokens, and the keys that verify its tokens.

    :ivar publish: the keys for tokens that publish.
    :ivar subscribe: the keys for tokens that subscribe.
    :ivar name: the ``iss`` of its tokens; ``None`` for an issuer that shares a key with the hub, and needs no
        name.
    :ivar authorization_server: whether clients request tokens from a server with this name. The hub's
        metadata then lists it.
    """

    publish: IKeys
    subscribe: IKeys
    name: str | None = None
    authorization_server: bool = True


def shared_secret(secret: str, *, subscribe: str | None = None, name: str | None = None) -> Issuer:
    """
    Return an issuer whose tokens are signed with a shared secret.

    :param secret: the secret, of at least 32 bytes.
    :param subscribe: another secret for the tokens of subscribers; ``None`` for the same one.
    :param name: the ``iss`` that tokens must have; ``None`` for any.
    :raises BadKey: for a secret that is too short.
    """
    publish = FixedKeys([secret_key(secret)])
    subscribers = publish if subscribe is None else FixedKeys([secret_key(subscribe)])
    return Issuer(publish, subscribers, name, authorization_server=False)


_EXPIRED = "it has expired"


class Verifier:
    """
    Verifies tokens.

    :param issuers: the trusted issuers.
    :param base: the hub's URL.
    :param audience: the accepted audiences (``aud``): a token must name one of them.
    :param algorithms: the algorithms that tokens may be signed with.
    :param compatibility: whether tokens from before Mercure 1.0 are accepted, too.
    :param key_claim: the name of the claim with the key of a session.
    :param revoked: the revoked tokens; ``None`` if tokens cannot be revoked.
    :param seconds: returns the time, in seconds since 1970.
    :raises ValueError: if two issuers have the same name, or both have none.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        base: str,
        audience: Iterable[str],
        algorithms: Iterable[str] = ALGORITHMS,
        compatibility: bool = False,
        key_claim: str = KEY_CLAIM,
        revoked: IRevoked | None = None,
        seconds: Callable[[], float],
    ) -> None:
        self._issuers: dict[str | None, Issuer] = {}
        for issuer in issuers:
            if issuer.name in self._issuers:
                # The keys of one would be used, and those of the other silently ignored.
                raise ValueError(f"two issuers have the name {issuer.name!r}; give one of them all the keys")
            self._issuers[issuer.name] = issuer
        # The keys of this issuer verify tokens that name no trusted issuer. If this issuer has a name, the
        # token is then refused, and the owner of the key learns why.
        with_own_keys = (issuer for issuer in self._issuers.values() if not issuer.authorization_server)
        self._default_issuer = self._issuers.get(None) or next(with_own_keys, None)
        self._base = base
        self._audience = frozenset(audience)
        self._algorithms = frozenset(algorithms) & frozenset(ALGORITHMS)
        self._compatibility = compatibility
        self._key_claim = key_claim
        self._revoked = revoked
        self._seconds = seconds
        self._cache: TokenCache[IKeys] = TokenCache(seconds)
        self._jws = PyJWS(list(self._algorithms))

    async def verify(self, token: str, role: Role) -> Grants:
        """
        Return what a token grants.

        :param token: the token.
        :param role: what it is presented for, which selects the issuer's keys.
        :raises InvalidToken: if the token is not valid, or has been revoked. The reason is logged.
        :raises Unavailable: while the keys of the token's issuer, or the list of revoked tokens, are
            unavailable.
        """
        try:
            grants = await self._find_cached(token, role) or await self._verify(token, role)
            if self._revoked is not None:
                # After each look into the cache, too, and as the last step: what is revoked while the keys
                # are fetched counts.
                await self._revoked.check(grants)
            return grants
        except InvalidToken as error:
            _log.debug("a token to {role} is refused: {problem}", role=role, problem=error.reason)
            raise

    async def _find_cached(self, token: str, role: Role) -> Grants | None:
        known = self._cache.find(token, role)
        if known is None:
            return None
        # This call makes the source look for newer keys. Otherwise a withdrawn key would stay valid as long
        # as no client presents another token.
        await known.keys.find(None)
        if known.keys.version != known.version:
            self._cache.forget(token, role)
            return None
        if known.grants.expires is not None and known.grants.expires <= self._seconds():
            raise InvalidToken(_EXPIRED, signed=True)
        return known.grants

    async def _verify(self, token: str, role: Role) -> Grants:
        if len(token) > _MAX_LENGTH:
            raise InvalidToken(f"it has more than {_MAX_LENGTH} characters")
        header, unverified = self._read(token)
        issuer = self._issuer_of(unverified)
        keys = issuer.publish if role == "publish" else issuer.subscribe
        algorithm, id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise InvalidToken("its algorithm is not allowed")
        if "crit" in header or not isinstance(header.get("kid", ""), str):
            raise InvalidToken("its header has an unsupported parameter")
        assert id is None or isinstance(id, str)
        found = await keys.find(id)
        if not keys.known:
            raise Unavailable("the keys of the token's issuer are currently unavailable")
        version = keys.version
        claims = self._claims(token, algorithm, _candidates(found, algorithm, id))
        try:
            _check_issuer(issuer, claims)
            grants = self._read_grants(header, claims)
        except InvalidToken as error:
            # A key of the hub verified the signature, so the client may learn the reason.
            raise InvalidToken(error.reason, signed=True) from None
        self._cache.add(token, role, CachedToken(keys, version, grants))
        return grants

    def _read(self, token: str) -> tuple[Mapping[str, object], Mapping[str, object]]:
        """
        Return the header and the claims of a token whose signature is not verified yet.
        """
        try:
            read = self._jws.decode_complete(token, options={"verify_signature": False})
            return read["header"], _to_claims(read["payload"])
        except (PyJWTError, ValueError, TypeError, RecursionError):
            raise InvalidToken("it is not a JSON Web Token") from None

    def _issuer_of(self, claims: Mapping[str, object]) -> Issuer:
        """
        Return the issuer whose keys must have signed a token.

        A token that names a trusted issuer is verified with the keys of that issuer only.
        """
        name = claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        issuer = issuer or self._default_issuer
        if issuer is None:
            raise InvalidToken("its issuer is not trusted")
        return issuer

    def _claims(self, token: str, algorithm: str, keys: Sequence[Key]) -> Mapping[str, object]:
        for key in keys:
            try:
                read = self._jws.decode_complete(token, key.material, [algorithm])
            except (PyJWTError, ValueError, TypeError, RecursionError):
                continue
            return _to_claims(read["payload"])
        raise InvalidToken("none of the keys verifies its signature")

    def _read_grants(self, header: Mapping[str, object], claims: Mapping[str, object]) -> Grants:
        is_legacy = self._compatibility and not _is_access_token(header)
        expires = _time(claims, "exp")
        if not is_legacy:
            if not _is_access_token(header):
                raise InvalidToken("its typ is not at+jwt")
            if expires is None:
                raise InvalidToken("it has no exp")
        if not is_legacy or claims.get("aud") is not None:
            # Tokens from before Mercure 1.0 need no audience, but a given one counts:
            # https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3
            self._check_audience(claims.get("aud"))
        if expires is not None and expires <= self._seconds():
            raise InvalidToken(_EXPIRED)
        begins = _time(claims, "nbf")
        if begins is not None and begins > self._seconds() + _LEEWAY:
            raise InvalidToken("it is not valid yet")
        grants = read_claim(claims, self._base) if is_legacy else read_details(claims, self._base)
        issued, identity = _time(claims, "iat"), read_identity(claims, self._key_claim)
        return replace(grants, expires=expires, issued=issued, identity=identity)

    def _check_audience(self, audience: object) -> None:
        named = audience if isinstance(audience, list) else [audience]
        if not any(isinstance(each, str) and each in self._audience for each in named):
            raise InvalidToken(f"its audience (aud) is not this hub's: {', '.join(sorted(self._audience))}")


def _check_issuer(issuer: Issuer, claims: Mapping[str, object]) -> None:
    if issuer.name is not None and claims.get("iss") != issuer.name:
        raise InvalidToken(f"its issuer (iss) is not the one that has this key: {issuer.name}")


def _candidates(keys: Sequence[Key], algorithm: str, id: object) -> Sequence[Key]:
    """
    Return the keys that may have signed a token.

    The ``kid`` is a hint: keys may have no ID. A key with another ID is tried only for a token without one.
    """
    suitable = [key for key in keys if algorithm in key.algorithms]
    with_id = [key for key in suitable if key.id is not None and key.id == id]
    return with_id or [key for key in suitable if key.id is None or id is None]


def _to_claims(payload: bytes) -> Mapping[str, object]:
    claims = json.loads(payload, parse_constant=_refuse_constant)
    if not isinstance(claims, dict):
        raise InvalidToken("its claims are not an object")
    return claims


def _refuse_constant(name: str) -> None:
    # Python's JSON parser accepts NaN and Infinity, which are not JSON.
    raise ValueError(name)


def _is_access_token(header: Mapping[str, object]) -> bool:
    type = header.get("typ")
    return isinstance(type, str) and type.lower().removeprefix("application/") == "at+jwt"


def _time(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _MAX_TIME:
        raise InvalidToken(f"its {name} is not a valid time")
    return float(value)
