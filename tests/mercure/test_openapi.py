"""
The OpenAPI description of the hub, ``docs/openapi.yaml``, against a running hub: every request that fits the
description, and every one that does not, gets a response that the description contains.

Run as a program, this module is that hub.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.mercure.world import PATH, URL, detail, sign, token
from tests.needs import needs
from tests.processes import python, start
from txsse.mercure.auth.grants import OWN_DETAIL_TYPE

requests: Any = pytest.importorskip("requests", reason="pip install schemathesis")
schemathesis: Any = pytest.importorskip("schemathesis", reason="pip install schemathesis")

ROOT = Path(__file__).parents[2]
CHECKS = schemathesis.checks

# Streams that end soon, because schemathesis reads each response to its end.
LIFETIME = 0.05

GOOD = sign(
    {
        "aud": URL,
        "exp": time.time() + 3600,
        "authorization_details": [
            detail(["publish"], "*"),
            detail(["subscribe"], "*", payload={"user": "x"}),
            {"type": OWN_DETAIL_TYPE, "actions": ["disconnect"]},
        ],
    }
)
POOR = token(publish=["nothing"], subscribe=["nothing"], exp=time.time() + 3600)

every = settings(
    derandomize=True,
    deadline=None,
    max_examples=20,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def serve() -> None:
    """
    Serve a hub on a free port, and print the port.
    """
    from twisted.internet import reactor
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    from tests.mercure.world import SECRET
    from txsse import Hub
    from txsse.mercure import Settings, shared_secret, well_known

    given = Settings(
        url=URL, issuers=[shared_secret(SECRET)], anonymous=True, origins=["https://example.org"]
    )
    root = Resource()
    root.putChild(b".well-known", well_known(Hub(), given, max_lifetime=LIFETIME))
    site = Site(root)
    site.log = lambda request: None  # type: ignore[method-assign]
    port = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[arg-type]
    print(port.getHost().port, flush=True)  # type: ignore[attr-defined]
    reactor.run()


@pytest.fixture(scope="module")
@needs("process")
def service() -> Iterator[str]:
    """
    Return the URL of a hub in its own process.
    """
    with start(python("-m", "tests.mercure.test_openapi")) as program:
        [port] = program.wait_for(r"^(\d+)$")
        yield f"http://127.0.0.1:{port}"


# The statuses with which the hub may refuse invalid data.
REFUSED = [400, 401, 403, 413]
CONFIG = {"checks": {"negative_data_rejection": {"expected-statuses": REFUSED}}}

schema = schemathesis.openapi.from_path(
    ROOT / "docs" / "openapi.yaml", config=schemathesis.Config.from_dict(CONFIG)
)

ANSWERS: list[Callable[..., Any]] = [
    CHECKS.not_a_server_error,
    CHECKS.status_code_conformance,
    CHECKS.content_type_conformance,
    CHECKS.response_headers_conformance,
    CHECKS.response_schema_conformance,
]

# The longest line that Twisted accepts.
LINE = 16_384


def ask(case: Any, service: str, *more: Callable[..., Any], token: str | None = None) -> None:
    """
    Send a request, and check the response against the description.
    """
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    checks = [*ANSWERS, *more]
    try:
        case.call_and_validate(base_url=service, headers=headers, checks=checks, timeout=10)
    except requests.ConnectionError:
        assert (
            len(requests.Request(**case.as_transport_kwargs(base_url=service)).prepare().url or "")
            > LINE - 100
        )


class DescriptionTests:
    def test_valid(self) -> None:
        """
        The hub's OpenAPI description is valid OpenAPI.
        """
        schema.validate()

    @pytest.mark.process
    @schema.parametrize()
    @every
    def test_with_a_good_token(self, case: Any, service: str) -> None:
        """
        Every request with a token that grants everything gets a described response, and an invalid
        form is refused.
        """
        more = [CHECKS.negative_data_rejection] if case.method == "POST" else []
        ask(case, service, *more, token=GOOD)

    @pytest.mark.process
    @schema.parametrize()
    @every
    def test_with_a_poor_token(self, case: Any, service: str) -> None:
        """
        Every request with a token that grants almost nothing gets a described response.
        """
        ask(case, service, token=POOR)

    @schema.parametrize()
    @every
    def test_without_a_token(self, case: Any, service: str) -> None:
        """
        Every request with only its own generated credentials gets a described response.
        """
        ask(case, service)

    @pytest.mark.process
    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
    @pytest.mark.parametrize("path", sorted(schema.raw_schema["paths"]))
    def test_other_methods(self, service: str, path: str, method: str) -> None:
        """
        A method that the OpenAPI description does not contain gets 405, and the Allow header names the
        described methods.
        """
        response = requests.request(method, service + re.sub("{.*?}", "x", path), timeout=10)
        assert response.status_code == 405
        allowed = set(response.headers["Allow"].split(", "))
        described = {name.upper() for name in schema.raw_schema["paths"][path]} - {"PARAMETERS"}
        assert described <= allowed <= described | {"HEAD", "OPTIONS", "QUERY"}
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.text.endswith("\n")
        options = requests.options(response.url, timeout=10)
        if "OPTIONS" in allowed:
            assert set(options.headers["Allow"].split(", ")) == allowed

    def test_listed_subscription(self, service: str) -> None:
        """
        The list of subscriptions, a single subscription and the 304 for an unchanged list fit the OpenAPI
        description.
        """
        headers = {"Authorization": f"Bearer {GOOD}"}
        operation = schema["/.well-known/mercure/subscriptions"]["GET"]
        single = schema["/.well-known/mercure/subscriptions/{match_type}/{match}/{subscriber}"]["GET"]
        for _ in range(100):
            # On a busy machine the stream may end before the list is requested.
            with requests.get(f"{service}{PATH}?match=a", headers=headers, stream=True, timeout=10):
                listed = requests.get(f"{service}{PATH}/subscriptions", headers=headers, timeout=10)
                if not listed.json()["subscriptions"]:
                    continue
                again = {**headers, "If-None-Match": listed.headers["ETag"]}
                unchanged = requests.get(listed.url, headers=again, timeout=10)
                *_, subscription = listed.json()["subscriptions"]
                found = requests.get(service + subscription["id"], headers=headers, timeout=10)
            operation.validate_response(listed)
            if unchanged.status_code == 304 and found.status_code == 200:
                assert unchanged.content == b""
                single.validate_response(found)
                assert found.json()["payload"] == {"user": "x"}
                return
        raise AssertionError("no subscription was ever listed")


if __name__ == "__main__":
    serve()
