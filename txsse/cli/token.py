"""
``txsse token``: make a token, or look at one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import TextIO

from txsse._output import Unwritable, complain, put
from txsse.cli.command import Command
from txsse.cli.key_options import (
    KEY_ENVIRONMENT,
    InvalidOption,
    add_key_arguments,
    choose_key,
    load,
    make_signed,
    read_keys,
)

__all__ = ["TOKEN"]

# Exit statuses; 2 is argparse's own.
_OK, _NOT_GOOD, _WRONG = 0, 1, 2

_EPILOG = f"""\
A topic is taken as it is; * is all of them. With --compatibility it may be a URI template, such as
https://example.org/books/{{id}}. A token without any topic allows to read what is public.

There is no option for a secret: everybody on the machine would see it on the command line. Put it into a
file, or into the environment variable {KEY_ENVIRONMENT}. So it is with tokens: --decode - reads one from
stdin.

It needs what this installs: pip install 'txsse[mercure]'

exit status:
  0  a token was made, or the one to decode is good as far as can be seen from here
  1  the token to decode is one that no hub takes, or not at this time, or the key did not sign it; or it
     cannot be printed
  2  the command line is wrong, or the key
"""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# More than any token has; what is longer is something else.
_MAX_TOKEN = 65536


def _lifetime(text: str) -> int | None:
    if text == "never":
        return None
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if found is None or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; one is written like 30s, 10m, 1h or 7d")
    return int(found[1]) * _SECONDS[found[2]]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, metavar, what in (
        ("--publish", "TOPIC", "allow to publish to this topic"),
        ("--publish-pattern", "PATTERN", "allow to publish to the topics that match this URL pattern"),
        ("--subscribe", "TOPIC", "allow to read the private updates of this topic"),
        ("--subscribe-pattern", "PATTERN", "allow to read those of the topics that match this URL pattern"),
    ):
        parser.add_argument(
            name, action="append", default=[], metavar=metavar, help=f"{what}; may be repeated"
        )
    parser.add_argument("--payload", metavar="JSON", help="what the hub tells others of the subscriptions")
    parser.add_argument("--subject", metavar="NAME", help="who the token is given to")
    parser.add_argument(
        "--expires-in",
        type=_lifetime,
        default=3600,
        metavar="TIME",
        help="how long it is good for: 30s, 10m, 1h (if nothing is said) or 7d; with --compatibility, never",
    )
    add_key_arguments(parser)
    parser.add_argument(
        "--decode",
        metavar="TOKEN",
        help="show what a token says, and whether the key, if there is one, made it",
    )


def _run(arguments: argparse.Namespace) -> int:
    try:
        if arguments.decode is not None:
            return _decode(arguments, os.environ, sys.stdin, sys.stdout)
        _make(arguments, os.environ, sys.stdout)
    except InvalidOption as error:
        complain(sys.stderr, "txsse token", error)
        return _WRONG
    except Unwritable as error:
        complain(sys.stderr, "txsse token", error)
        return _NOT_GOOD
    return _OK


def _make(arguments: argparse.Namespace, environment: Mapping[str, str], out: TextIO | None) -> None:
    keys = read_keys(arguments.key_file, environment)
    _check(arguments)
    now = time.time()
    token = make_signed(
        choose_key(keys, arguments.algorithm, arguments.key_id),
        publish=arguments.publish,
        publish_patterns=arguments.publish_pattern,
        subscribe=arguments.subscribe,
        subscribe_patterns=arguments.subscribe_pattern,
        payload=None if arguments.payload is None else _parse(arguments.payload),
        audience=arguments.audience,
        issuer=arguments.key_issuer,
        subject=arguments.subject,
        issued=now,
        expires=None if arguments.expires_in is None else now + arguments.expires_in,
        compatibility=arguments.compatibility,
    )
    put(out, f"{token}\n")


def _check(arguments: argparse.Namespace) -> None:
    """
    Check that the options go together.
    """
    if arguments.payload is not None and not (arguments.subscribe or arguments.subscribe_pattern):
        raise InvalidOption("--payload is for subscriptions, and there is no --subscribe")
    if arguments.compatibility:
        if arguments.publish_pattern or arguments.subscribe_pattern:
            raise InvalidOption(
                "before Mercure 1.0 there were no URL patterns; give URI templates to --publish and "
                "--subscribe"
            )
    elif arguments.audience is None:
        raise InvalidOption(
            "--audience is missing: the hub's URL, which the token is meant for; or --compatibility"
        )
    elif arguments.expires_in is None:
        raise InvalidOption(
            "a token that never expires was possible before Mercure 1.0 alone; give --compatibility, or a "
            "time"
        )


def _parse(payload: str) -> object:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        raise InvalidOption("--payload is no JSON") from None


def _decode(
    arguments: argparse.Namespace,
    environment: Mapping[str, str],
    given: TextIO | None,
    out: TextIO | None,
) -> int:
    if any((arguments.publish, arguments.publish_pattern, arguments.subscribe, arguments.subscribe_pattern)):
        raise InvalidOption("--decode makes no token; leave out what it should allow")
    explaining = load("cli.explain_token")
    keys = read_keys(arguments.key_file, environment)
    token = arguments.decode
    try:
        if token == "-":
            token = _read(given)
        text, good = explaining.describe(token, keys, time.time())
    except (UnicodeDecodeError, explaining.NoToken) as error:
        problem = error if isinstance(error, explaining.NoToken) else "this is no JSON Web Token"
        complain(sys.stderr, "txsse token", problem)
        return _NOT_GOOD
    put(out, text)
    return _OK if good else _NOT_GOOD


def _read(given: TextIO | None) -> str:
    if given is None:
        raise InvalidOption("stdin is closed; --decode - reads the token from there")
    try:
        return given.read(_MAX_TOKEN)
    except OSError as error:
        raise InvalidOption(f"stdin cannot be read: {error.strerror}") from None


TOKEN = Command("token", "Make a token for a hub, or look at one.", _add_arguments, _run, _EPILOG)
