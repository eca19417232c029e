"""
Header fields of a reply are parsed as in the Fetch standard and in Chromium.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.client.fields import essence_of, is_chunked, is_compressed, is_list_of_codings

TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def split(text: str) -> list[str]:
    """
    Follow the steps of https://fetch.spec.whatwg.org/#header-value-get-decode-and-split, one by one.
    """
    values, value, position = [], "", 0
    while True:
        while position < len(text) and text[position] not in '",':
            value += text[position]
            position += 1
        if position < len(text) and text[position] == '"':
            value += '"'
            position += 1
            while position < len(text):
                character = text[position]
                value += character
                position += 1
                if character == "\\" and position < len(text):
                    value += text[position]
                    position += 1
                elif character == '"':
                    break
            if position < len(text):
                continue
        values.append(value.strip("\t "))
        value = ""
        if position >= len(text):
            return values
        position += 1


def extracted(fields: list[str]) -> str | None:
    """
    Follow the steps of https://fetch.spec.whatwg.org/#concept-header-extract-mime-type for the essence.
    """
    essence = None
    for value in split(", ".join(fields)):
        type, slash, rest = value.strip("\t\n\r ").partition("/")
        subtype = rest.partition(";")[0].rstrip("\t\n\r ")
        if not (slash and type and subtype and TOKEN.issuperset(type + subtype)):
            continue
        if (type, subtype) != ("*", "*"):
            essence = f"{type}/{subtype}".lower()
    return essence


PIECES = st.lists(
    st.sampled_from(
        [
            "text/event-stream",
            "text/html",
            "*/*",
            "x",
            "/",
            ",",
            ";",
            '"',
            "\\",
            " ",
            "\t",
            "=",
            "charset",
            "ä",
            "\0",
        ]
    ),
    max_size=12,
).map("".join)


class EssenceTests:
    @given(st.lists(PIECES, max_size=3))
    def test_as_in_the_standard(self, fields: list[str]) -> None:
        """
        For any Content-Type fields, the media type is the one that the steps of the Fetch standard give.
        """
        assert essence_of(fields) == extracted(fields)

    @pytest.mark.parametrize(
        "fields",
        [
            ["application/json, text/event-stream; charset=utf-8"],
            ["text/event-stream, text/event-stream"],
            ["text/html", "text/event-stream"],
            ["text/event-stream", ""],
            ["", "text/event-stream"],
            ["text/event-stream,"],
            [",, Text/Event-Stream"],
            ["text/event-stream, */*"],
            ["text/event-stream, garbage"],
            ['text/html;a=",", text/event-stream'],
        ],
    )
    def test_event_stream(self, fields: list[str]) -> None:
        """
        The last valid media type of all Content-Type fields counts.
        """
        assert essence_of(fields) == "text/event-stream"

    @pytest.mark.parametrize(
        "fields",
        [
            [],
            [""],
            ["*/*"],
            ["text/event-stream, text/html"],
            ["text/event-stream", "text/html"],
            ['text/html;a=",text/event-stream,"'],
            ['text/html;a=", text/event-stream'],
            ['text/html;a="\\", text/event-stream'],
            ["text /event-stream"],
            ["text/event-stream x"],
            ["text/event-stream\xa0"],
        ],
    )
    def test_another_type(self, fields: list[str]) -> None:
        """
        A media type inside a quoted string, or before another valid one, is ignored.
        """
        assert essence_of(fields) != "text/event-stream"

    @pytest.mark.parametrize("unit", ['"', '"\\', ",", "a", '",', "\\", '"a\\"'])
    def test_long_value(self, unit: str) -> None:
        """
        A Content-Type value as large as a whole head is parsed in linear time.
        """
        essence_of([unit * (256 * 1024 // len(unit))])


class CodingsTests:
    @pytest.mark.parametrize(
        "fields",
        [["gzip"], ["GZIP"], ["x-gzip"], ["deflate"], ["br"], ["zstd"], ["gzip,gzip"], ["gzip", "br"]],
    )
    def test_compressed(self, fields: list[str]) -> None:
        """
        A body counts as compressed if all of its codings are known compressions.
        """
        assert is_list_of_codings(fields) and is_compressed(fields)

    @pytest.mark.parametrize(
        "fields",
        [
            [],
            [""],
            ["Identity"],
            ["identity, identity"],
            ["none"],
            ["utf-8"],
            ["foo"],
            ["compress"],
            ["gzip, identity"],
            ["gzip", "foo"],
            ["foo, gzip"],
            ["gzip,"],
        ],
    )
    def test_unknown_coding(self, fields: list[str]) -> None:
        """
        A body with an unknown coding, or identity, is read uncompressed, as in Chromium.
        """
        assert is_list_of_codings(fields) and not is_compressed(fields)

    @pytest.mark.parametrize(
        "fields", [["gzip;q=1"], ["identity;x"], ['"gzip"'], ["a=b"], ["*"], ["gzip br"]]
    )
    def test_not_a_list(self, fields: list[str]) -> None:
        """
        A Content-Encoding that is not a list of tokens is an error.
        """
        assert not is_list_of_codings(fields)

    @pytest.mark.parametrize(
        ("fields", "chunked"),
        [
            (["chunked"], True),
            (["Chunked"], True),
            (["\tchunked "], True),
            (["identity, chunked"], True),
            (["chunked, identity"], True),
            (["gzip, chunked"], True),
            (["chunked,"], True),
            (["foo", "chunked"], True),
            (["identity"], False),
            ([""], False),
            (["gzip"], False),
            (["xchunked"], False),
            (["chunked;x=y"], False),
            (['"chunked"'], False),
        ],
    )
    def test_chunked(self, fields: list[str], chunked: bool) -> None:
        """
        A body is chunked if one of its codings is; all other codings are ignored.
        """
        assert is_chunked(fields) is chunked
