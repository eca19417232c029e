"""
The options of commands that sign tokens: which key signs, and what the token says of itself.

What signs is imported only when a token is made: it needs optional packages, and takes half a second.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

# By RFC 7518, section 3.2, no shorter than the hash; for HS256 the key itself has seen to that.
_MIN_SECRETS = {"HS384": 48, "HS512": 64}


class InvalidOption(Exception):
    """
    The command line asks for what cannot be.
    """


def add_key_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.
    """
    parser.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="the key: a secret on a line, a private key in PEM format, or a JSON Web Key Set; "
        f"without it, the environment variable {KEY_ENVIRONMENT} holds a secret",
    )
    parser.add_argument(
        "--algorithm", metavar="NAME", help="what to sign with; otherwise the first that the key is good for"
    )
    parser.add_argument("--key-id", metavar="ID", help="the kid by which the hub knows the key")
    parser.add_argument(
        "--key-issuer", metavar="NAME", help="the iss of the token, where the hub has a --key-issuer"
    )
    parser.add_argument("--audience", metavar="TEXT", help="who the token is meant for: the hub's URL")
    parser.add_argument("--compatibility", action="store_true", help="a token as it was before Mercure 1.0")


def load(module: str) -> Any:
    """
    Import a module of this package that needs optional packages.

    :raises InvalidOption: where one is missing.
    """
    try:
        return import_module(f"txsse.{module}")
    except MissingExtra as error:
        raise InvalidOption(str(error)) from None


def read_keys(path: Path | None, environment: Mapping[str, str]) -> list[Key]:
    """
    Read the keys of a file, or the secret in the environment; return none where there is neither.

    :raises InvalidOption: for what is no key.
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
    Return the key that signs, with the one algorithm that it signs with, and the id that it goes by.

    :param keys: what :func:`read_keys` returned.
    :param algorithm: what to sign with; ``None`` for the first that the key is good for.
    :param id: the key's id; ``None`` for its own.
    :raises InvalidOption: where none of them can sign.
    """
    if not keys:
        raise InvalidOption(
            f"there is no key to sign with; name a file by --key-file, or put a secret into {KEY_ENVIRONMENT}"
        )
    signing = [key for key in keys if key.private is not None and key.algorithms]
    if not signing:
        raise InvalidOption("this key can verify, and not sign; give the private key, in PEM format")
    named = [key for key in signing if key.id == id] or [
        key for key in signing if key.id is None or id is None
    ]
    if not named:
        raise InvalidOption(f"none of the keys has the id {id}")
    fitting = [key for key in named if algorithm is None or algorithm in key.algorithms]
    if not fitting:
        good = ", ".join(dict.fromkeys(each for key in named for each in key.algorithms))
        raise InvalidOption(f"the key is not good for {algorithm}; it is for {good}")
    key = fitting[0]
    chosen = algorithm or key.algorithms[0]
    least = _MIN_SECRETS.get(chosen, 0)
    private: Any = key.private
    if len(private if least else b"") < least:
        raise InvalidOption(
            f"{chosen} wants a secret of at least {least} bytes; make one with: openssl rand -base64 {least}"
        )
    return replace(key, algorithms=(chosen,), id=id or key.id)


def make_signed(key: Key, **claims: object) -> str:
    """
    Make a token.

    :param key: what :func:`choose_key` returned.
    :param claims: the fields of :class:`txsse.mercure.auth.mint.RequestedClaims`.
    :raises InvalidOption: where no hub would accept it.
    """
    mint = load("mercure.auth.mint")
    try:
        made = mint.make_claims(mint.RequestedClaims(**claims))
    except mint.InvalidClaims as error:
        raise InvalidOption(str(error)) from None
    token: str = mint.sign(made, key.private, key.algorithms[0], key_id=key.id)
    return token
