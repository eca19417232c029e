"""
Scripts about the event stream itself: line ends, fields, characters and ids.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

from tests.peers.script import AGAIN, END, OPEN, QUICK, Script, apart, message, stream
from txsse.testing import Reply

__all__ = ["STREAM_SCRIPTS"]

# Invalid UTF-8 and its decoding: one U+FFFD for each maximal subpart of a character.
_NOT_UTF_8 = {
    b"\xff": "\ufffd",
    b"\xc3": "\ufffd",
    b"\xe2\x82": "\ufffd",
    b"\xf0\x9f\xa6x": "\ufffdx",
    b"\xc0\x80": "\ufffd" * 2,
    b"\xed\xa0\x80": "\ufffd" * 3,
    b"\xf4\x90\x80\x80": "\ufffd" * 4,
    b"\x80\xe4\xb8\xad": "\ufffd中",
}

_FORMAT = {
    "types and ids": stream(
        "data: a\n\nevent: tick\nid: 1\ndata: b\n\ndata: c\n\nid: 2\ndata: d\nevent: größe\n\n",
        gives=[message("a"), message("b", "1", "tick"), message("c", "1"), message("d", "2", "größe")],
        id="2",
    ),
    "types open and error": stream(
        "event: open\ndata: a\n\nevent: error\ndata: b\n\nevent: message\ndata: c\n\n",
        gives=[message("a", "", "open"), message("b", "", "error"), message("c")],
    ),
    "empty types": stream(
        "event:\ndata: a\n\nevent: x\nevent\ndata: b\n\nevent: y\nevent: z\ndata: c\n\n",
        gives=[message("a"), message("b"), message("c", "", "z")],
        unheard=["x", "y"],
    ),
    "type without data": stream(
        "event: x\n\ndata: a\n\nevent: x\nid: 1\n\ndata: b\n\n",
        gives=[message("a"), message("b", "1")],
        id="1",
        unheard=["x"],
    ),
    "line ends": stream(
        "data: a\ndata: b\r\ndata: c\rdata: d\r\n\r\ndata: e\r\rdata: f\n\n",
        "data: g\r\n\ndata: h\r\n\rdata: i\n\r",
        gives=[message("a\nb\nc\nd"), *map(message, "efghi")],
    ),
    "line ends in pieces": stream(
        *apart("data: a\r", "\ndata: b\r", "\n\r", "\ndata: c\r", "\rdata: d\r"),
        *apart("data: e\n", "\n", "\n", "data: f\r\n", "\r\n"),
        gives=[message("a\nb"), message("c"), message("d\ne"), message("f")],
    ),
    "CR at the end": stream(
        *apart("data: a\n\n", "id: 1\rdata: b\r\r"), gives=[message("a"), message("b", "1")], id="1"
    ),
    "BOM": stream("data: a\n\n", first=f"\ufeff{QUICK}", gives=[message("a")]),
    "BOM in pieces": stream(
        *apart(b"\xbb", b"\xbf", f"{QUICK}data: a\n\n"), first=b"\xef", gives=[message("a")]
    ),
    "BOM after a BOM": stream(
        "data: a\n\n", first=f"\ufeff\ufeffdata: no field\n\n{QUICK}", gives=[message("a")]
    ),
    "BOM within": stream("\ufeffdata: no field\n\ndata: \ufeffa\ufeff\n\n", gives=[message("\ufeffa\ufeff")]),
    "BOM of each stream": Script(
        [Reply(["\ufeffdata: a\nretry: 10\n\n"]), Reply(["\ufeffdata: b\n\n"])],
        [OPEN, message("a"), AGAIN, OPEN, message("b"), AGAIN, END],
        [("", None)] * 3,
    ),
    "comments": stream(
        ":\n\n: x\n:data: x\n\ndata: a\n: x\n:\ndata: b\n\n: id: 1\r:event: x\r\n\n",
        gives=[message("a\nb")],
        unheard=["x"],
    ),
    "NUL in an id": stream(
        "id: 1\ndata: a\n\nid: 2\0\ndata: b\n\nid: \0\ndata: c\n\n",
        gives=[message(each, "1") for each in "abc"],
        id="1",
    ),
    "NUL elsewhere": stream(
        "event: x\0y\ndata: a\0b\n\ndata\0: no field\n\n", gives=[message("a\0b", "", "x\0y")]
    ),
    "empty id": stream(
        "id: 1\ndata: a\n\nid:\ndata: b\n\nid: 2\ndata: c\n\nid\ndata: d\n\n",
        gives=[message("a", "1"), message("b"), message("c", "2"), message("d")],
    ),
    "id alone": stream(
        "id: 1\ndata: a\n\nid: 2\n\ndata: b\n\nid: 3\n\n",
        gives=[message("a", "1"), message("b", "2")],
        id="3",
    ),
    "several ids": stream("id: 1\nid: 2\ndata: a\n\n", gives=[message("a", "2")], id="2"),
    "unfinished event": stream("id: 1\ndata: a\n\nid: 2\ndata: b\n", gives=[message("a", "1")], id="1"),
    "unfinished line": stream("id: 1\ndata: a\n\nid: 2\n\ndata: b", gives=[message("a", "1")], id="2"),
    "unknown fields": stream(
        "Data: x\n data: x\ndata : x\nfoo\nfoo: bar\ndata: a\nEVENT: x\nID: 1\n\ndatas: x\n\n",
        gives=[message("a")],
        unheard=["x"],
    ),
    "fields without a colon": stream(
        "data\n\ndata\ndata\n\ndata:\ndata\ndata:\n\nevent\ndata: a\n\n",
        gives=[message(""), message("\n"), message("\n\n"), message("a")],
    ),
    "spaces": stream(
        "data:a\n\ndata: a\n\ndata:  a\n\ndata:\ta\n\ndata: a \n\ndata: \n\n",
        "event:  x\ndata: a\n\nid:a\ndata: a\n\n",
        gives=[*map(message, ["a", "a", " a", "\ta", "a ", ""]), message("a", "", " x"), message("a", "a")],
        id="a",
    ),
    "colons": stream("data: a: b:c\n\ndata::\n\ndata: : \n\n", gives=[*map(message, ["a: b:c", ":", ": "])]),
    "other line separators": stream(
        "data: a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\n\n",
        gives=[message("a\u2028b\u2029c\x85d\x0be\x0cf\x1cg")],
    ),
    "UTF-8 in pieces": stream(
        *apart(*(bytes([byte]) for byte in "data: ä古🐸\n\n".encode())),
        gives=[message("ä古🐸")],
    ),
    "not UTF-8": stream(
        *(b"data: " + each + b"\n\n" for each in _NOT_UTF_8),
        gives=[message(each) for each in _NOT_UTF_8.values()],
    ),
    "invalid retry": stream(
        "retry: 99999x\nretry: -99999\nretry: 99999.5\nretry: +99999\nretry: ٩٩٩٩٩\n",
        "retry:  99999\nretry: 99999 \nRetry: 99999\ndata: a\n\n",
        gives=[message("a")],
    ),
    "a megabyte": stream(
        "data: ",
        *["0123456789abcdef" * 4096] * 16,
        "\n\ndata: b\n\n",
        gives=[message("0123456789abcdef" * 65_536), message("b")],
    ),
    "many events": stream(
        *(f"id: {number}\ndata: {number}\n\n" for number in range(5000)),
        gives=[message(str(number), str(number)) for number in range(5000)],
        id="4999",
    ),
}

_IDS = {
    name: stream(f"id: {id}\ndata: a\n\n", gives=[message("a", id)], id=id.strip())
    for name, id in {
        "id in Latin 1": "é",
        "id in Unicode": "№ 7 · 古池 🐸",
        "id with a colon and spaces": "a: b  c",
        "id with spaces around": " a ",
        "id with a tab": "a\tb",
        "id with a control character": "a\x07b",
    }.items()
}

STREAM_SCRIPTS = {**_FORMAT, **_IDS}
