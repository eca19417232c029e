"""
Forms, as query strings and bodies write them.

Source: https://url.spec.whatwg.org/#application/x-www-form-urlencoded
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from twisted.web.http import Request

from txsse.mercure.refusal import BadRequest, TooLarge

__all__ = ["FORM", "Fields", "check_form", "read_body", "read_query"]

FORM = b"application/x-www-form-urlencoded"

#: Names and values, in order.
Fields = list[tuple[str, str]]

# How many fields there may be, whatever they are.
_MAX_FIELDS = 2000


def read_query(request: Request) -> Fields:
    """
    Read the query string.

    :raises BadRequest: for one that is not UTF-8, or has too many fields.
    """
    return _parse(request.uri.partition(b"?")[2], "the query")


def check_form(request: Request) -> None:
    """
    See that a body is a form.

    :raises BadRequest: for one that is not.
    """
    kind = (request.getHeader(b"Content-Type") or b"").partition(b";")[0].strip().lower()
    if kind != FORM:
        raise BadRequest(f"the body has to be of the type {FORM.decode()}")


def read_body(request: Request, limit: int) -> Fields:
    """
    Read the body.

    :param limit: how many bytes it may have.
    :raises BadRequest: for one that is not UTF-8, or has too many fields.
    :raises TooLarge: for more than that.
    """
    content = request.content
    assert content is not None
    content.seek(0)
    body = content.read(limit + 1)
    if len(body) > limit:
        raise TooLarge(f"a body may have {limit} bytes")
    return _parse(body, "the body")


def _parse(encoded: bytes, what: str) -> Fields:
    if encoded.count(b"&") >= _MAX_FIELDS:
        raise BadRequest(f"{what} has more than {_MAX_FIELDS} fields")
    try:
        return parse_qsl(encoded.decode("utf-8"), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest(f"{what} is not UTF-8") from None
