"""
The token of commands that send requests to a hub: from a file, from the environment, or made with a key.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from txsse._clock import wall
from txsse.cli.arguments import positive
from txsse.cli.key_options import (
    KEY_ENVIRONMENT,
    InvalidOption,
    add_key_arguments,
    choose_key,
    make_signed,
    read_keys,
)

__all__ = ["TOKEN_ENVIRONMENT", "Tokens", "add_token_arguments", "find_tokens"]

#: The environment variable with a token.
TOKEN_ENVIRONMENT = "TXSSE_TOKEN"

# The lifetime of a token made here, in seconds. A new one is made after half of it.
_LIFETIME = 60

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")

#: Returns the token of the next request; ``None`` for none.
Tokens = Callable[[], str | None]


def add_token_arguments(parser: argparse.ArgumentParser, purpose: str, timeout: float, what: str) -> None:
    """
    Add the options about the token and the connection to a command's parser.

    :param purpose: what the token is for, for the help.
    :param timeout: the default time-out of a request, in seconds.
    :param what: what may take that long, for the help.
    """
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help=f"a file with the token to {purpose} with"
    )
    parser.add_argument("--insecure", action="store_true", help="accept any TLS certificate of the hub")
    parser.add_argument(
        "--timeout",
        type=positive(float),
        default=timeout,
        metavar="S",
        help=f"how long {what} may take, in seconds; default: {timeout:g}",
    )
    add_key_arguments(parser)


def find_tokens(
    reactor: IReactorTime,
    arguments: argparse.Namespace,
    environment: Mapping[str, str],
    url: str,
    **grants: object,
) -> Tokens:
    """
    Return a function that returns the token; the command line takes precedence over the environment.

    :param url: the hub's URL, the audience of a token that is made here.
    :param grants: the grants of such a token: fields of
        :class:`~txsse.mercure.auth.mint.RequestedClaims`.
    :raises InvalidOption: if a file contains no token or no key, or no hub would accept the token.
    """
    if arguments.token_file is not None:
        if arguments.key_file is not None:
            raise InvalidOption("--token-file and --key-file exclude each other; give one of them")
        try:
            return _fixed(arguments.token_file.read_text("utf-8"), str(arguments.token_file))
        except OSError as error:
            raise InvalidOption(f"{arguments.token_file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InvalidOption(f"{arguments.token_file} does not contain a token") from None
    if arguments.key_file is None:
        if environment.get(TOKEN_ENVIRONMENT):
            return _fixed(environment[TOKEN_ENVIRONMENT], TOKEN_ENVIRONMENT)
        if not environment.get(KEY_ENVIRONMENT):
            return lambda: None
    return _made(reactor, arguments, environment, url, grants)


def _fixed(text: str, where: str) -> Tokens:
    token = text.strip()
    if not _TOKEN.fullmatch(token):
        # The error does not show the text: it may be another secret.
        raise InvalidOption(f"{where} does not contain a token")
    return lambda: token


def _made(
    reactor: IReactorTime,
    arguments: argparse.Namespace,
    environment: Mapping[str, str],
    url: str,
    grants: Mapping[str, object],
) -> Tokens:
    key = choose_key(read_keys(arguments.key_file, environment), arguments.algorithm, arguments.key_id)
    made: list[tuple[float, str]] = []

    def give() -> str:
        now = wall(reactor)
        # If the system time was set back, the token would be used long after its end by the hub's clock.
        if not made or not 0 <= now - made[-1][0] <= _LIFETIME / 2:
            token = make_signed(
                key,
                audience=arguments.audience or url,
                issuer=arguments.key_issuer,
                issued=now,
                expires=now + _LIFETIME,
                compatibility=arguments.compatibility,
                **grants,
            )
            made[:] = [(now, token)]
        return made[-1][1]

    # Report an invalid key or claim before anything is sent.
    give()
    return give
