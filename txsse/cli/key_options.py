"""
Options of the commands that sign tokens: the signing key, and the claims about the token itself.

The modules that sign are imported only when a token is made: they need optional packages, and their import
takes half a second.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from txsse._extras import MissingExtra

if TYPE_CHECKING:
    from txsse.mercure.auth.keys import Key


__all__ = [
    "KEY_ENVIRONMENT",
    "InvalidOption",
    "add_key_arguments",
    "choose_key",
    "load",
    "make_signed",
    "read_keys",
]

#: The environment variable that holds a secret.
KEY_ENVIRONMENT = "TXSSE_KEY"

# RFC 7518, section 3.2: a secret is at least as long as the hash. The key's own checks do this for HS256.
_MIN_SECRETS = {"HS384": 48, "HS512": 64}


class InvalidOption(Exception):
    """
    The command line contains an invalid option or combination of options.
    """


def add_key_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the key options to a command's parser.
    """
    parser.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="the signing key: a file with a secret on one line, a private key in PEM format, or a JSON Web "
        f"Key Set; without this option, the environment variable {KEY_ENVIRONMENT} contains a secret",
    )
    parser.add_argument(
        "--algorithm",
        metavar="NAME",
        help="the signing algorithm; default: the first one that the key supports",
    )
    parser.add_argument("--key-id", metavar="ID", help="the ID of the key (kid), as the hub knows it")
    parser.add_argument(
        "--key-issuer",
        metavar="NAME",
        help="the issuer of the token (iss); needed if the hub has a --key-issuer",
    )
    parser.add_argument("--audience", metavar="TEXT", help="the audience of the token (aud): the hub's URL")
    parser.add_argument(
        "--compatibility", action="store_true", help="make a token of the protocol before Mercure 1.0"
    )


def load(module: str) -> ModuleType:
    """
    Import a module of this package that needs optional packages.

    :raises InvalidOption: if an optional package is missing.
    """
    try:
        return import_module(f"txsse.{module}")
    except MissingExtra as error:
        raise InvalidOption(str(error)) from None


def read_keys(path: Path | None, environment: Mapping[str, str]) -> list[Key]:
    """
    Read the keys of a file, or the secret in the environment; return an empty list if neither is given.

    :raises InvalidOption: if the file or the secret is not a valid key.
    """
    keys = load("mercure.auth.keys")
    try:
        if path is not None:
            return list(keys.read_key(path))
        secret = environment.get(KEY_ENVIRONMENT)
        return [keys.secret_key(os.fsencode(secret))] if secret else []
    except keys.BadKey as error:
        raise InvalidOption(str(error) if path is not None else f"{KEY_ENVIRONMENT}: {error}") from None


def choose_key(keys: Sequence[Key], algorithm: str | None, id: str | None) -> Key:
    """
    Return the signing key, reduced to one algorithm and with its ID.

    :param keys: the keys from :func:`read_keys`.
    :param algorithm: the signing algorithm; ``None`` for the first one that the key supports.
    :param id: the key's ID; ``None`` for its own.
    :raises InvalidOption: if none of the keys can sign.
    """
    if not keys:
        raise InvalidOption(
            f"the signing key is missing; give --key-file, or set the environment variable {KEY_ENVIRONMENT}"
        )
    signing = [key for key in keys if key.private is not None and key.algorithms]
    if not signing:
        raise InvalidOption("this key can only verify; give the private key, in PEM format")
    named = [key for key in signing if key.id == id] or [
        key for key in signing if key.id is None or id is None
    ]
    if not named:
        raise InvalidOption(f"none of the keys has the id {id}")
    fitting = [key for key in named if algorithm is None or algorithm in key.algorithms]
    if not fitting:
        good = ", ".join(dict.fromkeys(each for key in named for each in key.algorithms))
        raise InvalidOption(f"the key does not support {algorithm}; it supports {good}")
    key = fitting[0]
    chosen = algorithm or key.algorithms[0]
    least = _MIN_SECRETS.get(chosen, 0)
    if least and isinstance(key.private, bytes) and len(key.private) < least:
        raise InvalidOption(
            f"{chosen} needs a secret of at least {least} bytes; make one with: openssl rand -base64 {least}"
        )
    return replace(key, algorithms=(chosen,), id=id or key.id)


def make_signed(key: Key, **claims: object) -> str:
    """
    Make and sign a token.

    :param key: the key from :func:`choose_key`.
    :param claims: the fields of :class:`txsse.mercure.auth.mint.RequestedClaims`.
    :raises InvalidOption: if no hub would accept the token.
    """
    mint = load("mercure.auth.mint")
    try:
        made = mint.make_claims(mint.RequestedClaims(**claims))
    except mint.InvalidClaims as error:
        raise InvalidOption(str(error)) from None
    token: str = mint.sign(made, key.private, key.algorithms[0], key_id=key.id)
    return token
