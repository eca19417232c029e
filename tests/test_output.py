"""
The output of commands: text of servers is safe to print on a terminal, and characters that the encoding lacks
are escaped.
"""

from __future__ import annotations

import io
import unicodedata
from collections import defaultdict
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txsse import ServerSentEvent
from txsse._output import complain, put, visible
from txsse.cli.format import as_text, as_visible_data
from txsse.cli.publish_result import NotDone, judge
from txsse.client.response import Refuses, StreamRequest, parse_url
from txsse.client.response import judge as judge_stream

TIME = datetime(2026, 11, 22, tzinfo=UTC)

every = settings(derandomize=True, deadline=None, database=None)

# All characters, and the dangerous ones more often.
hostile = st.text(
    st.characters() | st.sampled_from("\x1b\x07\x9b\x7f\u200f\u061c\u202e\u2066\u2028\ufeff\U000e0001\r\t\n")
)


def unsafe(shown: str, *, lines: int = 1) -> set[str]:
    """
    Return the characters that are unsafe on a terminal, in a text of this many lines.
    """
    assert shown.endswith("\n") and shown.count("\n") == lines
    return {
        each
        for each in shown.replace("\n", "")
        if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp")
    }


class VisibleTests:
    @given(hostile)
    @every
    def test_any_text(self, text: str) -> None:
        """
        ``visible`` escapes every character that a terminal acts on, and changes no other.
        """
        shown = visible(text)
        assert not unsafe(shown + "\n")
        if not unsafe(text.replace("\n", "") + "\n") and "\n" not in text:
            assert shown == text

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("a\x1b[2Jb", "a\\u001b[2Jb"),
            ("\u200f\u061c", "\\u200f\\u061c"),
            ("\U000e0001", "\\U000e0001"),
            ("a\nb", "a\\u000ab"),
            ("ä €  😀", "ä €  😀"),
        ],
    )
    def test_examples(self, text: str, shown: str) -> None:
        """
        ``visible`` writes escapes as JSON and Python do.
        """
        assert visible(text) == shown

    @given(hostile)
    @every
    def test_error_message(self, text: str) -> None:
        """
        A command's error is one line without unsafe characters, whatever the error contains.
        """
        err = io.StringIO()
        complain(err, "txsse tail", ValueError(text))
        assert err.getvalue().startswith("txsse tail: ")
        assert not unsafe(err.getvalue())


class PutTests:
    def test_encoding(self) -> None:
        """
        Output escapes characters that the encoding of stdout lacks, and does not raise UnicodeEncodeError.
        """
        written = io.BytesIO()
        out = io.TextIOWrapper(written, encoding="latin-1", newline="")
        put(out, "ä€\n")
        assert written.getvalue() == b"\xe4\\u20ac\n"


class ShownTests:
    """
    Every text of a server that a command prints passes through one of these functions.
    """

    @given(data=hostile, type=hostile, id=hostile)
    @every
    def test_events(self, data: str, type: str, id: str) -> None:
        """
        A printed event contains no unsafe character, whatever its fields contain.
        """
        # Made directly, since the parser and the constructor refuse some of these fields.
        event = tuple.__new__(ServerSentEvent, (data, type, id, None))
        lines = 1 + data.count("\n")
        assert not unsafe(as_text(event, TIME), lines=lines if lines == 1 else lines + 1)
        assert not unsafe(as_visible_data(event, TIME), lines=lines)

    @given(status=st.sampled_from([200, 301, 404, 503]), value=hostile)
    @every
    def test_refused_streams(self, status: int, value: str) -> None:
        """
        The error for a refused stream contains no unsafe character, whatever the response's header fields
        contain.
        """
        request = StreamRequest(parse_url("http://x/"), "GET", (), None)
        for name in ("Content-Type", "Content-Encoding", "Location"):
            lines = defaultdict(list, {"Content-Type": ["text/event-stream"], name: [value]})
            decision = judge_stream(request, status, lines.__getitem__, temporary=[], now=0)
            if isinstance(decision, Refuses):
                err = io.StringIO()
                complain(err, "txsse tail", decision.error)
                assert not unsafe(err.getvalue())

    @given(status=st.sampled_from([200, 301, 403, 404, 429, 500]), value=hostile, body=hostile | st.binary())
    @every
    def test_refused_updates(self, status: int, value: str, body: str | bytes) -> None:
        """
        The result of a publication contains no unsafe character, whatever the hub answers.
        """
        content = body if isinstance(body, bytes) else body.encode("utf-8", "replace")
        fields = {"Location": value, "Retry-After": value}
        shown = io.StringIO()
        try:
            id = judge(status, fields.get, content, url="http://x/", topics=[value], has_token=True)
        except NotDone as problem:
            complain(shown, "txsse publish", problem)
        else:
            shown.write(id + "\n")
        assert not unsafe(shown.getvalue())
