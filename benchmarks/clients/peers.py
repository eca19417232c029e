"""
The other clients, and how to install them.
"""

from __future__ import annotations

from shared.peers import CACHE, ROOT, NodePackage, PythonPackages

# txsse itself is imported from the checkout, so that the benchmark measures the code of the checkout.
PYTHON = PythonPackages(
    CACHE / "clients",
    (
        "Twisted",
        "httpx",
        "httpx-sse",
        "launchdarkly-eventsource",
        "aiohttp",
        "aiohttp-sse-client2",
        "requests",
        "sseclient-py",
    ),
)
NODE = NodePackage(CACHE / "node-clients", "eventsource")


def environment() -> dict[str, str]:
    """
    Return the clients' environment variables: txsse's path, and no proxy for this machine.
    """
    return {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
