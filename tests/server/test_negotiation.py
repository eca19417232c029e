"""
Tests of the decision whether a request becomes a stream.
"""

from __future__ import annotations

from typing import Any

import pytest

from txsse.server.negotiation import Accepted, Answer, Asked, Rules, accepts_event_stream, decide

RULES = Rules(
    methods=(b"GET",),
    allow_origins=frozenset(),
    allow_credentials=False,
    allow_headers=(b"Authorization", b"Last-Event-ID"),
    max_last_event_id=16,
)


def rules(**changes: Any) -> Rules:
    return Rules(**{**vars(RULES), **changes})


STREAM = {
    b"Content-Type": b"text/event-stream",
    b"Cache-Control": b"no-cache, no-store, no-transform",
    b"X-Accel-Buffering": b"no",
}


class ConflictTests:
    def test_several_ids(self) -> None:
        """
        A request with several different IDs is refused, unless the rules have an ID for that.
        """
        asked = Asked(b"GET", last_event_id=[b"a", b"b"])
        refused = decide(asked, RULES)
        assert isinstance(refused, Answer)
        assert (refused.status, refused.reason) == (400, "more than one Last-Event-ID")
        accepted = decide(asked, rules(conflicting_last_event_ids="earliest"))
        assert isinstance(accepted, Accepted)
        assert accepted.last_event_id == "earliest"


class MethodTests:
    def test_get(self) -> None:
        """
        A GET opens a stream, with headers that keep caches and proxies from storing or buffering it.
        """
        decision = decide(Asked(b"GET"), RULES)
        assert decision == Accepted("", list(STREAM.items()), [])

    def test_head(self) -> None:
        """
        A HEAD gets the headers of a GET, and no stream.
        """
        decision = decide(Asked(b"HEAD"), RULES)
        assert isinstance(decision, Answer)
        assert (decision.status, decision.body) == (200, b"")
        assert dict(decision.headers) == STREAM

    def test_options(self) -> None:
        """
        An OPTIONS request gets the allowed methods.
        """
        decision = decide(Asked(b"OPTIONS"), RULES)
        assert isinstance(decision, Answer)
        assert (decision.status, decision.body) == (204, b"")
        assert dict(decision.headers) == {b"Allow": b"GET, HEAD, OPTIONS"}

    @pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"TRACE", b"get", b"BREW", b""])
    def test_methods_that_are_not_allowed(self, method: bytes) -> None:
        """
        A method that is not allowed gets 405 and the allowed methods.
        """
        decision = decide(Asked(method), RULES)
        assert isinstance(decision, Answer)
        assert decision.status == 405
        assert dict(decision.headers)[b"Allow"] == b"GET, HEAD, OPTIONS"
        assert decision.body == b"allowed here: GET, HEAD, OPTIONS\n"

    def test_post_that_is_allowed(self) -> None:
        """
        A POST opens a stream if the rules allow it; without GET, HEAD is not allowed either.
        """
        only_post = rules(methods=(b"POST",))
        assert isinstance(decide(Asked(b"POST"), only_post), Accepted)
        for method in (b"GET", b"HEAD"):
            decision = decide(Asked(method), only_post)
            assert isinstance(decision, Answer)
            assert decision.status == 405
            assert dict(decision.headers)[b"Allow"] == b"POST, OPTIONS"


class AcceptTests:
    @pytest.mark.parametrize(
        "accept",
        [
            [],
            [b""],
            [b" , "],
            [b"text/event-stream"],
            [b"Text/Event-Stream"],
            [b"text/*"],
            [b"*/*"],
            [b"text/html, text/event-stream"],
            [b"text/html", b"text/event-stream"],
            [b"text/event-stream;q=0.001"],
            [b"text/event-stream; charset=utf-8; q=1.000"],
            [b"text/event-stream;q=1, */*;q=0"],
            [b"*/*;q=0, text/*;q=0.5"],
            [b"text/event-stream;q=high"],
            [b"text/event-stream;level=0"],
            [b"text/event-stream;q=-1"],
            [b"text/event-stream;q=nan"],
            [b"\xff\xfe, */*"],
        ],
    )
    def test_accept_that_includes_event_streams(self, accept: list[bytes]) -> None:
        """
        No Accept field, the media type itself, or a range that covers it with a weight above 0 accepts a
        stream.
        """
        assert accepts_event_stream(tuple(accept))

    @pytest.mark.parametrize(
        "accept",
        [
            [b"text/html"],
            [b"application/json, text/plain"],
            [b"text/event-stream;q=0"],
            [b"text/event-stream;q=0.000"],
            [b"text/event-stream; q = 0"],
            [b"*/*, text/event-stream;q=0"],
            [b"text/event-stream;q=0, text/*;q=1"],
            [b"text/*;q=0, */*"],
            [b"*/*;q=0"],
            [b"text/event-streams"],
            [b"\xff\xfe"],
        ],
    )
    def test_accept_that_excludes_event_streams(self, accept: list[bytes]) -> None:
        """
        Other media types, or weight 0 in the most specific range that covers the type, refuse a stream with
        406.
        """
        assert not accepts_event_stream(tuple(accept))
        decision = decide(Asked(b"GET", accept=accept), RULES)
        assert isinstance(decision, Answer)
        assert decision.status == 406
        assert b"text/event-stream" in decision.body

    @pytest.mark.parametrize(
        "accept",
        [[], [b"application/json"], [b"text/*;q=0"], [b"text/event-stream;q=0"], [b"\xff"]],
    )
    def test_any_accept(self, accept: list[bytes]) -> None:
        """
        With ``any_accept``, the Accept field does not change the decision.
        """
        asked = Asked(b"POST", accept=accept)
        decision = decide(asked, rules(methods=(b"POST",), any_accept=True))
        assert decision == Accepted("", list(STREAM.items()), [])

    def test_other_refusals_with_any_accept(self) -> None:
        """
        With ``any_accept``, a wrong method and an invalid Last-Event-ID are still refused, and HEAD and
        OPTIONS get no stream.
        """
        own = rules(any_accept=True)
        accept = [b"application/json"]
        for asked, status in (
            (Asked(b"POST", accept=accept), 405),
            (Asked(b"GET", accept=accept, last_event_id=[b"\xff"]), 400),
            (Asked(b"HEAD", accept=accept), 200),
            (Asked(b"OPTIONS", accept=accept), 204),
        ):
            decision = decide(asked, own)
            assert isinstance(decision, Answer)
            assert decision.status == status

    def test_refusal_is_plain_text(self) -> None:
        """
        The body of a 406 response is the reason, as one line of plain text.
        """
        decision = decide(Asked(b"GET", accept=[b"text/html"]), RULES)
        assert decision == Answer(
            406,
            "only text/event-stream is available here",
            [(b"Content-Type", b"text/plain; charset=utf-8")],
            b"only text/event-stream is available here\n",
        )

    def test_head_is_negotiated_as_well(self) -> None:
        """
        A HEAD with an Accept field gets the status that the GET would get.
        """
        decision = decide(Asked(b"HEAD", accept=[b"text/html"]), RULES)
        assert isinstance(decision, Answer)
        assert decision.status == 406


class LastEventIdTests:
    @pytest.mark.parametrize("value", ["", "7", "ä€😀", "a b", "x" * 16])
    def test_valid_ids(self, value: str) -> None:
        """
        A Last-Event-ID in UTF-8 is passed on unchanged.
        """
        decision = decide(Asked(b"GET", last_event_id=[value.encode()]), RULES)
        assert isinstance(decision, Accepted)
        assert decision.last_event_id == value

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ([b"\xff"], "Last-Event-ID is not UTF-8"),
            ([b"\xed\xa0\x80"], "Last-Event-ID is not UTF-8"),
            ([b"x" * 17], "Last-Event-ID has more than 16 bytes"),
            ([b"1", b"2"], "more than one Last-Event-ID"),
            ([b"a\nb"], "Last-Event-ID holds CR, LF or NUL"),
            ([b"a\rb"], "Last-Event-ID holds CR, LF or NUL"),
            ([b"a\0b"], "Last-Event-ID holds CR, LF or NUL"),
        ],
    )
    def test_invalid_ids(self, values: list[bytes], reason: str) -> None:
        """
        An invalid Last-Event-ID gets 400 and the reason.
        """
        for method in (b"GET", b"HEAD"):
            decision = decide(Asked(method, last_event_id=values), RULES)
            assert isinstance(decision, Answer)
            assert (decision.status, decision.reason) == (400, reason)
            assert decision.body == reason.encode() + b"\n"


ORIGIN = b"https://a.example"
LISTED = rules(allow_origins=frozenset([ORIGIN]))


def headers(asked: Asked, with_rules: Rules) -> dict[bytes, bytes]:
    found = dict(decide(asked, with_rules).headers)
    return {name: value for name, value in found.items() if name not in STREAM}


class CorsTests:
    def test_no_allowed_origins(self) -> None:
        """
        Without allowed origins, no CORS header is sent.
        """
        assert headers(Asked(b"GET", origin=ORIGIN), RULES) == {}

    def test_listed_origin(self) -> None:
        """
        A listed origin may read the stream without cookies, and Vary makes caches distinguish origins.
        """
        assert headers(Asked(b"GET", origin=ORIGIN), LISTED) == {
            b"Vary": b"Origin",
            b"Access-Control-Allow-Origin": ORIGIN,
        }

    def test_listed_origin_with_credentials(self) -> None:
        """
        A listed origin may send cookies if allow_credentials is set.
        """
        allowed = rules(allow_origins=frozenset([ORIGIN]), allow_credentials=True)
        assert headers(Asked(b"GET", origin=ORIGIN), allowed) == {
            b"Vary": b"Origin",
            b"Access-Control-Allow-Origin": ORIGIN,
            b"Access-Control-Allow-Credentials": b"true",
        }

    @pytest.mark.parametrize(
        "origin",
        [
            None,
            b"null",
            b"http://a.example",
            b"https://a.example:8443",
            b"https://a.example.evil.example",
            b"https://A.example",
        ],
    )
    def test_origin_that_is_not_listed(self, origin: bytes | None) -> None:
        """
        An origin that is not listed gets no CORS permission, and is never reflected.
        """
        assert headers(Asked(b"GET", origin=origin), LISTED) == {b"Vary": b"Origin"}

    def test_all_origins(self) -> None:
        """
        With ``*``, the header is ``*``, whatever the origin of the request.
        """
        any_origin = rules(allow_origins=frozenset([b"*"]))
        assert headers(Asked(b"GET", origin=ORIGIN), any_origin) == {b"Access-Control-Allow-Origin": b"*"}

    @pytest.mark.parametrize(
        "asked",
        [
            Asked(b"GET", origin=ORIGIN, accept=[b"text/html"]),
            Asked(b"GET", origin=ORIGIN, last_event_id=[b"\xff"]),
            Asked(b"POST", origin=ORIGIN),
            Asked(b"OPTIONS", origin=ORIGIN),
            Asked(b"HEAD", origin=ORIGIN),
        ],
    )
    def test_complete_responses_may_be_read_too(self, asked: Asked) -> None:
        """
        A page of a listed origin may read the responses that are not streams.
        """
        found = headers(asked, LISTED)
        assert found[b"Access-Control-Allow-Origin"] == ORIGIN
        assert found[b"Vary"] == b"Origin"
        assert b"Access-Control-Allow-Methods" not in found

    def test_preflight(self) -> None:
        """
        A preflight of a listed origin gets the allowed methods and headers.
        """
        asked = Asked(b"OPTIONS", origin=ORIGIN, requested_method=b"GET")
        assert headers(asked, LISTED) == {
            b"Allow": b"GET, HEAD, OPTIONS",
            b"Vary": b"Origin",
            b"Access-Control-Allow-Origin": ORIGIN,
            b"Access-Control-Allow-Methods": b"GET, HEAD, OPTIONS",
            b"Access-Control-Allow-Headers": b"Authorization, Last-Event-ID",
            b"Access-Control-Max-Age": b"7200",
        }

    def test_preflight_with_all_origins(self) -> None:
        """
        With ``*``, a preflight of any origin gets the allowed methods and headers.
        """
        asked = Asked(b"OPTIONS", origin=ORIGIN, requested_method=b"GET")
        assert headers(asked, rules(allow_origins=frozenset([b"*"]))) == {
            b"Allow": b"GET, HEAD, OPTIONS",
            b"Access-Control-Allow-Origin": b"*",
            b"Access-Control-Allow-Methods": b"GET, HEAD, OPTIONS",
            b"Access-Control-Allow-Headers": b"Authorization, Last-Event-ID",
            b"Access-Control-Max-Age": b"7200",
        }

    def test_preflight_of_an_origin_that_is_not_listed(self) -> None:
        """
        A preflight of an origin that is not listed gets the Allow header, and no CORS permission.
        """
        asked = Asked(b"OPTIONS", origin=b"https://evil.example", requested_method=b"GET")
        assert headers(asked, RULES) == {b"Allow": b"GET, HEAD, OPTIONS"}
        assert headers(asked, LISTED) == {b"Allow": b"GET, HEAD, OPTIONS", b"Vary": b"Origin"}
