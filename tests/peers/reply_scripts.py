"""
Scripts about everything outside the event stream: how it ends, status codes, media types, content codings and
redirects.

Sources: https://html.spec.whatwg.org/multipage/server-sent-events.html#sse-processing-model and
https://fetch.spec.whatwg.org/#http-redirect-fetch
"""

from __future__ import annotations

import gzip

from tests.peers.script import AGAIN, END, OPEN, QUICK, SEEN, Script, message, refused
from txsse.testing import CUT, Reply

__all__ = ["REDIRECTS", "REPLY_SCRIPTS"]


def opens(kind: str) -> Script:
    """
    Return a script with a media type that opens a stream; its text is UTF-8 whatever its parameters say.
    """
    return Script(
        [Reply([QUICK, "data: ä\n\n"], headers={"Content-Type": kind})],
        [OPEN, message("ä"), AGAIN, END],
        [("", None)] * 2,
    )


def redirected(status: int, location: str, path: str) -> Script:
    """
    Return a script with a redirected stream. The client reconnects to the redirect's target, because a
    request goes to the last URL of its list, to which a redirect adds one.

    Source: https://github.com/whatwg/html/issues/503
    """
    return Script(
        [Reply(status=status, headers={"Location": location}), Reply([QUICK, "id: 1\ndata: a\n\n"])],
        [OPEN, message("a", "1"), AGAIN, END],
        [("", None), (path, None), (path, "1")],
    )


_ENDS = {
    "several streams": Script(
        [Reply([f"{QUICK}id: {n}\ndata: a\n\nid: {n}b\ndata: b\n\n"]) for n in (1, 2, 3)],
        [note for n in (1, 2, 3) for note in (OPEN, message("a", f"{n}"), message("b", f"{n}b"), AGAIN)]
        + [END],
        [("", None), ("", "1b"), ("", "2b"), ("", "3b")],
    ),
    "an empty stream": Script(
        [Reply([f"{QUICK}id: 1\n\n"]), Reply([]), Reply(["data: a\n\n"])],
        [OPEN, AGAIN, OPEN, AGAIN, OPEN, message("a", "1"), AGAIN, END],
        [("", None), *[("", "1")] * 3],
    ),
    # The standard specifies a new buffer for each stream, but all browsers keep the last event id.
    "id of the stream before": Script(
        [Reply([f"{QUICK}id: 1\ndata: a\n\n"]), Reply(["data: b\n\n"])],
        [OPEN, message("a", "1"), AGAIN, OPEN, message("b", "1"), AGAIN, END],
        [("", None), ("", "1"), ("", "1")],
    ),
    "unfinished event of the stream before": Script(
        [Reply([f"{QUICK}event: x\nid: 1\ndata: a\n"]), Reply(["data: b\n\n"])],
        [OPEN, AGAIN, OPEN, message("b"), AGAIN, END],
        [("", None)] * 3,
        ["x"],
    ),
    "cut": Script(
        [Reply([f"{QUICK}id: 1\n{SEEN}", CUT]), Reply(["id: 2\ndata: b\n\n"])],
        [OPEN, message("x", "1", "seen"), AGAIN, OPEN, message("b", "2"), AGAIN, END],
        [("", None), ("", "1"), ("", "2")],
    ),
    "cut in an event": Script(
        [Reply([f"{QUICK}id: 1\n{SEEN}id: 2\ndata: b\n", CUT]), Reply(["id: 2\ndata: b\n\n"])],
        [OPEN, message("x", "1", "seen"), AGAIN, OPEN, message("b", "2"), AGAIN, END],
        [("", None), ("", "1"), ("", "2")],
    ),
    "cut in a character": Script(
        [Reply([f"{QUICK}{SEEN}data: ".encode() + b"\xf0\x9f", CUT]), Reply([b"data: \x90\xb8\n\n"])],
        [OPEN, message("x", "", "seen"), AGAIN, OPEN, message("\ufffd\ufffd"), AGAIN, END],
        [("", None)] * 3,
    ),
    "shorter than its Content-Length": Script(
        [Reply([f"{QUICK}{SEEN}", CUT], headers={"Content-Length": "1000"})],
        [OPEN, message("x", "", "seen"), AGAIN, END],
        [("", None)] * 2,
    ),
    "as long as its Content-Length": Script(
        [Reply([f"{QUICK}data: a\n\n"], headers={"Content-Length": str(len(QUICK) + 9)})],
        [OPEN, message("a"), AGAIN, END],
        [("", None)] * 2,
    ),
    "compressed": Script(
        [Reply([gzip.compress(f"{QUICK}data: a\n\n".encode())], headers={"Content-Encoding": "gzip"})],
        [OPEN, message("a"), AGAIN, END],
        [("", None)] * 2,
    ),
    "refused on reconnection": Script(
        [Reply([f"{QUICK}id: 1\ndata: a\n\n"]), Reply(["data: b\n\n"], status=500)],
        [OPEN, message("a", "1"), AGAIN, END],
        [("", None), ("", "1")],
    ),
    "another media type on reconnection": Script(
        [
            Reply([f"{QUICK}id: 1\ndata: a\n\n"]),
            Reply(["data: b\n\n"], headers={"Content-Type": "text/plain"}),
        ],
        [OPEN, message("a", "1"), AGAIN, END],
        [("", None), ("", "1")],
    ),
}

_STATUSES = {
    f"status {status}": refused(Reply([QUICK, "data: a\n\n"], status=status, headers={"Retry-After": "0"}))
    for status in (201, 202, 206, 400, 403, 404, 410, 429, 500, 502, 503)
} | {"status 204": refused(Reply(status=204))}

_MEDIA_TYPES = {
    f"media type {kind or 'missing'}": refused(Reply([QUICK, "data: a\n\n"], headers={"Content-Type": kind}))
    for kind in (
        "text/plain",
        "text/html",
        "text/event-stream-x",
        "x/text/event-stream",
        "text/event",
        "",
        "text/event-stream, text/html",
        'text/html;x=", text/event-stream',
    )
} | {
    f"media type {kind}": opens(kind)
    for kind in (
        "text/event-stream;charset=utf-8",
        'text/event-stream; charset="UTF-8"; a=b',
        "Text/Event-Stream",
        "text/event-stream;",
        "text/event-stream;a",
        "text/event-stream;charset=windows-1252",
        "application/json, text/event-stream; charset=utf-8",
        "text/event-stream, text/event-stream",
        "text/html;charset=gbk, text/event-stream",
        "text/event-stream, */*",
        "text/event-stream,",
    )
}

# A Content-Encoding that the body does not have. Chromium decodes the body only if it knows all codings.
_CODINGS = {
    f"coding {coding}": Script(
        [Reply([QUICK, "data: a\n\n"], headers={"Content-Encoding": coding})],
        [OPEN, message("a"), AGAIN, END],
        [("", None)] * 2,
    )
    for coding in ("identity, identity", "none", "utf-8", "aws-chunked", "gzip, identity", "foo, gzip", "")
} | {
    "invalid content coding": Script(
        [Reply([QUICK, "data: a\n\n"], headers={"Content-Encoding": "gzip;q=1"})],
        [AGAIN, END],
        [("", None)] * 2,
    )
}

REDIRECTS = {
    **{f"redirect {status}": redirected(status, "moved", "moved") for status in (301, 302, 303, 307, 308)},
    "redirect to a query": redirected(302, "?a=b&c#d", "?a=b&c"),
    "redirect in Unicode": redirected(302, "größe".encode().decode("latin-1"), "gr%C3%B6%C3%9Fe"),
    "redirect with spaces": redirected(302, "a b", "a%20b"),
    "redirect as it is": redirected(
        302,
        "a'()*;,=&+!~-._%2f%7e%c3//b:c@d?noeq&a=b=c&&e=&%c3%b6+%2B;/?:@",
        "a'()*;,=&+!~-._%2f%7e%c3//b:c@d?noeq&a=b=c&&e=&%c3%b6+%2B;/?:@",
    ),
    "redirect with a lone percent": redirected(302, "a%zz%", "a%zz%"),
    "redirect with dots": redirected(302, "a/./b/../c", "a/c"),
    "redirect twice": Script(
        [
            Reply(status=302, headers={"Location": "a/b"}),
            Reply(status=307, headers={"Location": "c"}),
            Reply([QUICK, "data: a\n\n"]),
        ],
        [OPEN, message("a"), AGAIN, END],
        [("", None), ("a/b", None), *[("a/c", None)] * 2],
    ),
    "redirect on reconnection": Script(
        [
            Reply([f"{QUICK}id: 1\ndata: a\n\n"]),
            Reply(status=302, headers={"Location": "moved"}),
            Reply(["id: 2\ndata: b\n\n"]),
        ],
        [OPEN, message("a", "1"), AGAIN, OPEN, message("b", "2"), AGAIN, END],
        [("", None), ("", "1"), ("moved", "1"), ("moved", "2")],
    ),
    "redirect without a location": refused(Reply([QUICK, "data: a\n\n"], status=302)),
    "status 300 with a location": refused(
        Reply([QUICK, "data: a\n\n"], status=300, headers={"Location": "moved"})
    ),
    "redirect to a 404": Script(
        [Reply(status=302, headers={"Location": "moved"}), Reply(status=404)],
        [END],
        [("", None), ("moved", None)],
    ),
    "redirect in a circle": Script(
        [Reply([QUICK])] + [Reply(status=302, headers={"Location": "."})] * 21,
        [OPEN, AGAIN, AGAIN, END],
        [("", None)] * 23,
    ),
}

REPLY_SCRIPTS = {**_ENDS, **_STATUSES, **_MEDIA_TYPES, **_CODINGS, **REDIRECTS}
