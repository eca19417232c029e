"""
Parsing of forms in queries and bodies: the lookup of a single field, and that refused requests are not
parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mercure.world import OTHER_SECRET, PATH, MercureWorld, old_token, sign, token
from txsse.mercure import forms
from txsse.mercure.errors import BadRequest
from txsse.mercure.forms import find_in_query

BODY = b"&".join([b"match=%41%41&topic=x&data=y&last_event_id=%41"] * 400)
LONG_QUERY = "&".join(["match=%41&last_event_id=%41&topic=%41"] * 150)


class FindTests:
    @settings(derandomize=True, deadline=None, max_examples=400)
    @given(
        st.lists(
            st.sampled_from(
                [
                    "name",
                    "n%61me",
                    "%6E%61%6D%65",
                    "%6e",
                    "Name",
                    "names",
                    "x",
                    "&",
                    "=",
                    "+",
                    "%",
                    "%4",
                    "v",
                    "é",
                ]
            ),
            max_size=8,
        )
    )
    def test_same_as_a_full_parse(self, pieces: list[str]) -> None:
        """
        The lookup of one field returns its first value, the same as a parse of the whole query.
        """
        query = "".join(pieces)
        request: Any = SimpleNamespace(uri=f"/x?{query}".encode())
        values = [value for name, value in parse_qsl(query, keep_blank_values=True) if name == "name"]
        assert find_in_query(request, "name") == (values[0] if values else None)

    @pytest.mark.parametrize("value", [b"%FF", b"\xff", b"%C3"])
    def test_not_utf_8(self, value: bytes) -> None:
        """
        The lookup of one field rejects a value that is not UTF-8, and ignores other fields' values.
        """
        request: Any = SimpleNamespace(uri=b"/x?other=" + value + b"&name=" + value)
        with pytest.raises(BadRequest, match="the query is not UTF-8"):
            find_in_query(request, "name")
        assert find_in_query(request, "more") is None


# For each kind of request: its method, path, headers and body.
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
REQUESTS: dict[str, tuple[str, str, dict[str, str], bytes]] = {
    "GET": ("GET", PATH, {}, b""),
    "HEAD": ("HEAD", PATH, {}, b""),
    "QUERY": ("QUERY", PATH, FORM, BODY),
    "QUERY of another type": ("QUERY", PATH, {"Content-Type": "text/plain"}, BODY),
    "POST": ("POST", PATH, FORM, BODY),
    "list": ("GET", f"{PATH}/subscriptions", {}, b""),
    "list of a topic": ("GET", f"{PATH}/subscriptions/exact/%41", {}, b""),
}

# For each fault of the token: the headers that present it, and the status of the response.
FAULTS: dict[str, tuple[dict[str, str], int]] = {
    "none": ({}, 401),
    "foreign": ({"Authorization": f"Bearer {sign({}, key=OTHER_SECRET)}"}, 401),
    "expired": ({"Authorization": f"Bearer {token(publish=['*'], exp=-1)}"}, 401),
    "malformed": ({"Authorization": "Bearer  ,"}, 400),
    "foreign cookie": ({"Cookie": f"__Secure-mercure_access_token={sign({}, key=OTHER_SECRET)}"}, 401),
}


class RefusedTests:
    """
    The work for a refused request does not grow with its query and its body.
    """

    @pytest.fixture
    def decoded(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """
        Record every string that the parsing of forms decodes.
        """
        decoded: list[Any] = []

        def noting(function: Callable[..., Any]) -> Callable[..., Any]:
            def noted(text: Any, *args: Any, **options: Any) -> Any:
                decoded.append(text)
                return function(text, *args, **options)

            return noted

        for name in ("parse_qsl", "unquote_plus"):
            monkeypatch.setattr(forms, name, noting(getattr(forms, name)))
        return decoded

    @pytest.mark.slow
    @pytest.mark.parametrize("compatibility", [False, True])
    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("kind", REQUESTS)
    def test_no_form_is_read(
        self,
        new: Callable[..., MercureWorld],
        decoded: list[Any],
        kind: str,
        fault: str,
        compatibility: bool,
    ) -> None:
        """
        The hub parses no form of a request without a valid token, whatever the fault, the method and the
        dialect.
        """
        world = new(compatibility=compatibility)
        method, path, headers, body = REQUESTS[kind]
        own, status = FAULTS[fault]
        answer = world.ask(method, f"{path}?{LONG_QUERY}", body=body, headers={**headers, **own})
        assert answer.status == status
        assert decoded == []

    @pytest.mark.parametrize("kind", REQUESTS)
    def test_token_in_the_query(
        self, new: Callable[..., MercureWorld], decoded: list[Any], kind: str
    ) -> None:
        """
        In compatibility mode the hub decodes only the token of a query if the token is invalid.
        """
        world = new(compatibility=True)
        method, path, headers, body = REQUESTS[kind]
        query = f"{LONG_QUERY}&authorization=nonsense&{LONG_QUERY}"
        assert world.ask(method, f"{path}?{query}", body=body, headers=headers).status == 401
        assert decoded == ["nonsense"]

    def test_publishing(self, new: Callable[..., MercureWorld], decoded: list[Any]) -> None:
        """
        The hub does not parse a publication whose token, origin or content type it refuses.
        """
        world = new(compatibility=True)
        cookie = {"Cookie": f"__Secure-mercure_access_token={token(publish=['*'])}"}
        refused = [
            (token(subscribe=["*"]), FORM, 403),
            (old_token(subscribe=["*"]), FORM, 403),
            (token(publish=["*"]), {"Content-Type": "text/plain"}, 400),
            (None, {**FORM, **cookie, "Origin": "https://evil.example"}, 403),
            (None, {**FORM, **cookie}, 403),
        ]
        for access, headers, status in refused:
            assert world.ask("POST", body=BODY, headers=headers, token=access).status == status
        assert decoded == []

    def test_accepted(self, world: MercureWorld, decoded: list[Any]) -> None:
        """
        The hub parses the form of an accepted request once.
        """
        assert world.ask("QUERY", body=b"match=a&last_event_id=x", headers=FORM).status == 200
        assert decoded == ["", "match=a&last_event_id=x"]
