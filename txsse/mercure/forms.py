"""
Reads HTML forms from query strings and request bodies.

Source: https://url.spec.whatwg.org/#application/x-www-form-urlencoded
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import parse_qsl, unquote_plus

from twisted.web.http import Request

from txsse.mercure.errors import BadRequest, Refusal, TooLarge
from txsse.web.body import BodyTooLarge, read_content

__all__ = ["FORM", "Fields", "check_form", "find_in_query", "read_body", "read_query"]

FORM = b"application/x-www-form-urlencoded"

#: Pairs of name and value, in order.
Fields = list[tuple[str, str]]

# The maximum number of fields, known and unknown ones.
_MAX_FIELDS = 2000


def read_query(request: Request) -> Fields:
    """
    Return the fields of the query string.

    :raises BadRequest: if it is not UTF-8, or has too many fields.
    """
    return _parse(_query(request), "the query", BadRequest)


def find_in_query(request: Request, name: str) -> str | None:
    """
    Return the first value of one field of the query string, without decoding the other fields.

    The work for a request that is not authorised yet is one search, however many fields it has.

    :param name: the field's name, in ASCII letters.
    :returns: the value; ``None`` if the query has no such field.
    :raises BadRequest: if the value is not UTF-8.
    """
    found = _field(name).search(_query(request))
    if found is None:
        return None
    try:
        return unquote_plus((found[1] or b"").decode("utf-8"), errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("the query is not UTF-8") from None


def check_form(request: Request) -> None:
    """
    Check that the body has the media type of a form.

    :raises BadRequest: for any other type.
    """
    kind = (request.getHeader(b"Content-Type") or b"").partition(b";")[0].strip().lower()
    if kind != FORM:
        raise BadRequest(f"the Content-Type of the body must be {FORM.decode()}")


def read_body(request: Request, limit: int, too_many: type[Refusal] = TooLarge) -> Fields:
    """
    Return the fields of the body.

    :param limit: the maximum size of the body, in bytes.
    :param too_many: the error for too many fields.
    :raises BadRequest: if the body is not UTF-8.
    :raises TooLarge: if the body exceeds the limit.
    """
    content = request.content
    assert content is not None
    content.seek(0)
    try:
        body = read_content(content, limit)
    except BodyTooLarge:
        raise TooLarge(f"the body must not exceed {limit} bytes") from None
    return _parse(body, "the body", too_many)


def _query(request: Request) -> bytes:
    return request.uri.partition(b"?")[2]


@lru_cache(maxsize=8)
def _field(name: str) -> re.Pattern[bytes]:
    # A client may percent-encode the characters of a name.
    spelled = "".join(f"(?:{character}|(?i:%{ord(character):02x}))" for character in name)
    return re.compile(rf"(?:\A|&){spelled}(?:=([^&]*))?(?=&|\Z)".encode())


def _parse(encoded: bytes, what: str, too_many: type[Refusal]) -> Fields:
    if encoded.count(b"&") >= _MAX_FIELDS:
        raise too_many(f"{what} has more than {_MAX_FIELDS} fields")
    try:
        return parse_qsl(encoded.decode("utf-8"), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest(f"{what} is not UTF-8") from None
