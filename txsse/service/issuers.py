"""
The issuers whose tokens the service accepts, made from its options: key files, secrets, and URLs of key sets.
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
    Make the issuers whose tokens are accepted.

    :raises BadConfig: if no client could publish, and for invalid keys, names or URLs.
    """
    if len(config.issuer) != len(config.jwks):
        raise BadConfig("--issuer and --jwks go together: the name of an issuer, and the URL of its keys")
    _check_key_issuer(config)
    unknown = set(config.algorithm) - set(ALGORITHMS)
    if unknown:
        raise BadConfig(f"--algorithm: {min(unknown)} is not supported; choose from {', '.join(ALGORITHMS)}")
    issuers = []
    for name, url in zip(config.issuer, config.jwks, strict=True):
        try:
            check_url(url)
            keys = RemoteKeys(url, reactor=reactor)
        except (ValueError, MissingExtra) as error:
            raise BadConfig(f"--jwks: {error}") from None
        issuers.append(Issuer(publish=keys, subscribe=keys, name=name))
    publish, subscribe = _read_keys(config, "publish"), _read_keys(config, "subscribe")
    _check_algorithms(config, publish, subscribe)
    if publish or subscribe:
        # The operator makes these tokens: clients cannot request them from an authorization server.
        issuers.append(
            Issuer(FixedKeys(publish), FixedKeys(subscribe), config.key_issuer, authorization_server=False)
        )
    elif config.key_issuer is not None:
        raise BadConfig(
            "--key-issuer: no key is given that it applies to; give one with --key-file or TXSSE_KEY, or "
            "leave --key-issuer out"
        )
    if not (publish or config.issuer):
        raise BadConfig(
            "no client could publish: give a key with --key-file or TXSSE_KEY, or --issuer and --jwks; "
            "or try --demo first"
        )
    return issuers


def _check_key_issuer(config: Config) -> None:
    name = config.key_issuer
    if name == "":
        raise BadConfig("--key-issuer: it is empty; give the iss claim of your tokens, or leave it out")
    if name in config.issuer:
        raise BadConfig(
            f"--key-issuer: {name} is also an --issuer, whose keys are those of its --jwks; remove one of "
            "the two"
        )


def describe_keys(config: Config) -> Iterator[str]:
    """
    Describe the keys of each role in one line, for ``--check``: algorithms and IDs, no secrets.
    """
    for role in ("publish", "subscribe"):
        keys = [f"{_algorithms(key)}{f' ({key.id})' if key.id else ''}" for key in _read_keys(config, role)]
        yield f"keys to {role}: {', '.join(keys) or 'none'}"


def _read_keys(config: Config, role: str) -> Sequence[Key]:
    """
    Read the keys for a role.

    :param role: ``publish`` or ``subscribe``.
    :raises BadConfig: for an invalid key.
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
    Check that some key of each role suits an allowed algorithm; otherwise every token would get 401.
    """
    if not config.algorithm:
        return
    allowed, listed = set(config.algorithm), ", ".join(config.algorithm)
    for role, keys in (("publish", publish), ("subscribe", subscribe)):
        if keys and not any(allowed & set(key.algorithms) for key in keys):
            suitable = ", ".join(dict.fromkeys(map(_algorithms, keys)))
            raise BadConfig(
                f"--algorithm: it allows {listed}, but the keys to {role} are for {suitable}; allow one of "
                "those, or give another key"
            )


def _algorithms(key: Key) -> str:
    return "/".join(key.algorithms)
