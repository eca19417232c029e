"""
Tokens looked at.
"""

from __future__ import annotations

import json
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeGuard

from txsse._extras import needs
from txsse._output import visible
from txsse.mercure.auth.grants import read_claim, read_details
from txsse.mercure.auth.keys import ALGORITHMS, Key
from txsse.mercure.auth.mint import BASE
from txsse.mercure.errors import InvalidToken

with needs("mercure", "a token"):
    from jwt import PyJWS
    from jwt.exceptions import PyJWTError

__all__ = ["NoToken", "describe"]

# Claims that are times, in seconds since 1970.
_TIMES = ("iat", "nbf", "exp", "auth_time")

_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


class NoToken(Exception):
    """
    It is something else.
    """


def describe(token: str, keys: Sequence[Key], now: float) -> tuple[str, bool]:
    """
    Tell a person what a token says.

    :param token: the token.
    :param keys: those that may have signed it; none to leave that open.
    :param now: the time, in seconds since 1970.
    :returns: some lines, and whether it is good as far as can be seen from here.
    :raises NoToken: for something else.
    """
    token = token.strip()
    if token[:7].lower() == "bearer ":
        # Copied out of a header.
        token = token[7:].strip()
    header, claims = _read(token)
    verdicts = [
        *_dialect(header, claims),
        _expiry(claims.get("exp"), now),
        *_beginning(claims.get("nbf"), now),
        _signature(token, header, keys),
    ]
    try:
        lines = ["header", *map(_line, header.items()), "claims", *map(_line, claims.items())]
    except RecursionError:
        # Python reads more levels than it writes.
        raise NoToken("this is no token of any use: it has too many levels") from None
    text = "\n".join([*lines, *(text for text, _ in verdicts)])
    # Whoever made the token is not trusted with the terminal.
    return visible(text, keep="\n") + "\n", all(good for _, good in verdicts)


def _read(token: str) -> tuple[Mapping[str, object], Mapping[str, object]]:
    try:
        read = PyJWS().decode_complete(token, options={"verify_signature": False})
        header, claims = read["header"], json.loads(read["payload"])
    except (PyJWTError, ValueError, TypeError, RecursionError):
        raise NoToken("this is no JSON Web Token") from None
    if not isinstance(claims, dict):
        raise NoToken("this is no JSON Web Token: its claims are no object")
    return header, claims


def _line(entry: tuple[str, object]) -> str:
    name, value = entry
    if name in _TIMES:
        value = _iso(value) or value
    if isinstance(value, (dict, list)):
        shown = "\n" + textwrap.indent(json.dumps(value, indent=2, ensure_ascii=False), "    ")
    elif isinstance(value, str):
        shown = f" {visible(value)}"
    else:
        shown = " " + json.dumps(value)
    return f"  {visible(name)}:{shown}"


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12


def _iso(value: object) -> str | None:
    if not _is_time(value):
        return None
    try:
        return datetime.fromtimestamp(value, UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
    except (ValueError, OverflowError, OSError):
        # Later than the year 9999, or what else the system does not know.
        return None


def _span(seconds: float) -> str:
    # The largest unit of which there are two at least, so that nothing is rounded beyond recognition.
    size, unit = next((each for each in _UNITS if seconds >= 2 * each[0]), _UNITS[-1])
    return f"{int(seconds // size)} {unit}"


def _dialect(header: Mapping[str, object], claims: Mapping[str, object]) -> list[tuple[str, bool]]:
    """
    Tell what kind of token it is, and why no hub would take it, whatever the time, the key and the URL are.
    """
    type = header.get("typ")
    if isinstance(type, str) and type.lower().removeprefix("application/") == "at+jwt":
        missing = [f"it has no {name}" for name in ("exp", "aud") if claims.get(name) is None]
        problems = [*missing, *_audience(claims), *_grants(read_details, claims)]
        verdict = "it is a token of Mercure 1.0"
    elif "mercure" in claims:
        problems = [*_audience(claims), *_grants(read_claim, claims)]
        verdict = "it is a token from before Mercure 1.0"
    else:
        return [("it is no token of Mercure's: its typ is not at+jwt, and it has no claim mercure", False)]
    return [(verdict, True), *((f"no hub takes it: {problem}", False) for problem in problems)]


def _audience(claims: Mapping[str, object]) -> list[str]:
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if audience is None or any(isinstance(each, str) for each in named):
        return []
    return ["its aud is no text, such as the hub's URL"]


def _grants(read: Callable[[Mapping[str, object], str], object], claims: Mapping[str, object]) -> list[str]:
    try:
        read(claims, BASE)
    except InvalidToken as error:
        # It may hold text of the token's.
        return [visible(error.reason)]
    return []


def _expiry(expires: object, now: float) -> tuple[str, bool]:
    if expires is None:
        return "it never expires", True
    if not _is_time(expires):
        return "its exp is no time", False
    if expires <= now:
        return f"it has expired {_span(now - expires)} ago", False
    return f"it expires in {_span(expires - now)}", True


def _beginning(begins: object, now: float) -> list[tuple[str, bool]]:
    if begins is None:
        return []
    if not _is_time(begins):
        return [("its nbf is no time", False)]
    return [(f"it is not valid yet, but in {_span(begins - now)}", False)] if begins > now else []


def _signature(token: str, header: Mapping[str, object], keys: Sequence[Key]) -> tuple[str, bool]:
    if not keys:
        return "its signature was not looked at: there is no --key-file", True
    algorithm = header.get("alg")
    for key in keys:
        if not isinstance(algorithm, str) or algorithm not in key.algorithms:
            continue
        try:
            with warnings.catch_warnings():
                # Of short secrets. That is for whoever signs.
                warnings.simplefilter("ignore")
                PyJWS(list(ALGORITHMS)).decode_complete(token, key.material, [algorithm])
        except (PyJWTError, ValueError, TypeError, RecursionError):
            continue
        return "its signature fits the key", True
    return "its signature does not fit the key", False
