"""
Whose tokens the service trusts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from txsse._extras import MissingExtra
from txsse.mercure.auth.jwks import RemoteKeys
from txsse.mercure.auth.keys import ALGORITHMS, BadKey, Key, read_key, secret_key
from txsse.mercure.auth.verify import FixedKeys, Issuer
from txsse.service.config import BadConfig, Config
from txsse.service.urls import check_url

__all__ = ["describe_keys", "make_issuers"]


def make_issuers(config: Config, reactor: IReactorTime) -> list[Issuer]:
    """
    Make those who are trusted.

    :raises BadConfig: where nobody is, and for keys and names that cannot be.
    """
    if len(config.issuer) != len(config.jwks):
        raise BadConfig("--issuer and --jwks go together: a name, and where its keys are")
    _check_key_issuer(config)
    unknown = set(config.algorithm) - set(ALGORITHMS)
    if unknown:
        raise BadConfig(f"--algorithm: {min(unknown)} is not known here; there are {', '.join(ALGORITHMS)}")
    issuers = []
    for name, url in zip(config.issuer, config.jwks, strict=True):
        try:
            check_url(url)
            keys = RemoteKeys(url, reactor=reactor)
        except (ValueError, MissingExtra) as error:
            raise BadConfig(f"--jwks: {error}") from None
        issuers.append(Issuer(keys, keys, name))
    publish, subscribe = _read_keys(config, "publish"), _read_keys(config, "subscribe")
    _check_algorithms(config, publish, subscribe)
    if publish or subscribe:
        issuers.append(
            Issuer(FixedKeys(publish), FixedKeys(subscribe), config.key_issuer, authorization_server=False)
        )
    elif config.key_issuer is not None:
        raise BadConfig(
            "--key-issuer: there is no key that it is about; give one by --key-file or TXSSE_KEY, or leave "
            "it out"
        )
    if not issuers or not (publish or config.issuer):
        raise BadConfig(
            "nobody could publish: give a key by --key-file or TXSSE_KEY, or --issuer and --jwks; "
            "or try --demo first"
        )
    return issuers


def _check_key_issuer(config: Config) -> None:
    name = config.key_issuer
    if name == "":
        raise BadConfig("--key-issuer: it is empty; give what tokens have as iss, or leave it out")
    if name in config.issuer:
        raise BadConfig(
            f"--key-issuer: {name} is an --issuer, too, whose keys are at its --jwks; take one of them away"
        )


def describe_keys(config: Config) -> Iterator[str]:
    """
    Say what keys there are for each role, without themselves.
    """
    for role in ("publish", "subscribe"):
        named = [f"{_kinds(key)}{f' ({key.id})' if key.id else ''}" for key in _read_keys(config, role)]
        yield f"keys to {role}: {', '.join(named) or 'none'}"


def _read_keys(config: Config, role: str) -> Sequence[Key]:
    """
    Read the keys for a role.

    :param role: ``publish`` or ``subscribe``.
    :raises BadConfig: for one that cannot be.
    """
    own_files = getattr(config, f"{role}_key_file")
    own_secret = getattr(config, f"{role}_key")
    keys: list[Key] = []
    for path in (*config.key_file, *own_files):
        try:
            keys += read_key(Path(path))
        except BadKey as error:
            raise BadConfig(str(error)) from None
    for name, secret in (("key", config.key), (f"{role}-key", own_secret)):
        if secret is not None:
            try:
                keys.append(secret_key(secret))
            except BadKey as error:
                raise BadConfig(f"{name}: {error}") from None
    return keys


def _check_algorithms(config: Config, publish: Sequence[Key], subscribe: Sequence[Key]) -> None:
    """
    See that there are tokens that would be good; every one would get 401 otherwise.
    """
    if not config.algorithm:
        return
    allowed, named = set(config.algorithm), ", ".join(config.algorithm)
    for role, keys in (("publish", publish), ("subscribe", subscribe)):
        if keys and not any(allowed & set(key.algorithms) for key in keys):
            good = ", ".join(dict.fromkeys(map(_kinds, keys)))
            raise BadConfig(
                f"--algorithm: {named} is allowed, and the keys to {role} are for {good}; allow one of "
                "those, or give another key"
            )


def _kinds(key: Key) -> str:
    return "/".join(key.algorithms)
