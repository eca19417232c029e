"""
Decode a token for ``txsse token --decode``, and explain whether a hub would accept it.
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
from txsse.mercure.auth.grants import Grants, read_claim, read_details
from txsse.mercure.auth.identity import KEY_CLAIM, read_identity
from txsse.mercure.auth.keys import ALGORITHMS, Key
from txsse.mercure.auth.mint import BASE
from txsse.mercure.errors import InvalidToken

with needs("mercure", "a token"):
    from jwt import PyJWS
    from jwt.exceptions import PyJWTError

__all__ = ["NoToken", "describe"]

# Claims that contain a time, in seconds since 1970.
_TIMES = ("iat", "nbf", "exp", "auth_time")

_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


class NoToken(Exception):
    """
    The text is not a token.
    """


def describe(token: str, keys: Sequence[Key], now: float) -> tuple[str, bool]:
    """
    Describe a token for the user.

    :param token: the token.
    :param keys: the keys that may have signed it; if empty, the signature is not verified.
    :param now: the time, in seconds since 1970.
    :returns: some lines, and whether the checks found no reason for a hub to refuse the token.
    :raises NoToken: if the text is not a token.
    """
    token = token.strip()
    if token[:7].lower() == "bearer ":
        # The user copied it from a header.
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
        # Python's JSON parser accepts more nested levels than its encoder.
        raise NoToken("this token is unusable: its JSON has too many nested levels") from None
    text = "\n".join([*lines, *(text for text, _ in verdicts)])
    # The maker of the token is not trusted with the terminal.
    return visible(text, keep="\n") + "\n", all(good for _, good in verdicts)


def _read(token: str) -> tuple[Mapping[str, object], Mapping[str, object]]:
    try:
        read = PyJWS().decode_complete(token, options={"verify_signature": False})
        header, claims = read["header"], json.loads(read["payload"])
    except (PyJWTError, ValueError, TypeError, RecursionError):
        raise NoToken("this is not a JSON Web Token") from None
    if not isinstance(claims, dict):
        raise NoToken("this is not a JSON Web Token: its claims are not an object")
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
        # Later than the year 9999, or otherwise unknown to the system.
        return None


def _span(seconds: float) -> str:
    # The largest unit with a count of at least two, so that rounding stays small.
    size, unit = next((each for each in _UNITS if seconds >= 2 * each[0]), _UNITS[-1])
    return f"{int(seconds // size)} {unit}"


def _dialect(header: Mapping[str, object], claims: Mapping[str, object]) -> list[tuple[str, bool]]:
    """
    Return the token's Mercure version, and each reason why no hub accepts it, whatever the time, key and URL.
    """
    type = header.get("typ")
    if isinstance(type, str) and type.lower().removeprefix("application/") == "at+jwt":
        missing = [f"it has no {name}" for name in ("exp", "aud") if claims.get(name) is None]
        problems = [*missing, *_audience(claims), *_grants(read_details, claims)]
        verdict = "it is a Mercure 1.0 token"
        if not problems and read_details(claims, BASE).disconnect:
            verdict += ", and allows disconnecting clients"
    elif "mercure" in claims:
        problems = [*_audience(claims), *_grants(read_claim, claims)]
        verdict = "it is a token of the protocol before Mercure 1.0"
    else:
        return [("it is not a Mercure token: its typ is not at+jwt, and it has no mercure claim", False)]
    return [(verdict, True), *((f"no hub accepts it: {problem}", False) for problem in problems)]


def _audience(claims: Mapping[str, object]) -> list[str]:
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if audience is None or any(isinstance(each, str) for each in named):
        return []
    return ["its aud is not a text, such as the hub's URL"]


def _grants(read: Callable[[Mapping[str, object], str], Grants], claims: Mapping[str, object]) -> list[str]:
    try:
        read(claims, BASE)
        read_identity(claims, KEY_CLAIM)
    except InvalidToken as error:
        # The reason may quote the token.
        return [visible(error.reason)]
    return []


def _expiry(expires: object, now: float) -> tuple[str, bool]:
    if expires is None:
        return "it never expires", True
    if not _is_time(expires):
        return "its exp is not a time", False
    if expires <= now:
        return f"it expired {_span(now - expires)} ago", False
    return f"it expires in {_span(expires - now)}", True


def _beginning(begins: object, now: float) -> list[tuple[str, bool]]:
    if begins is None:
        return []
    if not _is_time(begins):
        return [("its nbf is not a time", False)]
    return (
        [(f"it is not valid yet; it becomes valid in {_span(begins - now)}", False)] if begins > now else []
    )


def _signature(token: str, header: Mapping[str, object], keys: Sequence[Key]) -> tuple[str, bool]:
    if not keys:
        return "its signature was not verified: no key was given (--key-file or TXSSE_KEY)", True
    algorithm = header.get("alg")
    for key in keys:
        if not isinstance(algorithm, str) or algorithm not in key.algorithms:
            continue
        try:
            with warnings.catch_warnings():
                # A warning about short secrets concerns the signer.
                warnings.simplefilter("ignore")
                PyJWS(list(ALGORITHMS)).decode_complete(token, key.material, [algorithm])
        except (PyJWTError, ValueError, TypeError, RecursionError):
            continue
        return "its signature is valid for the key", True
    return "its signature is not valid for the key", False
