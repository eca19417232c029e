"""
What the client is compared with.
"""

from __future__ import annotations

from shared.peers import CACHE, ROOT, NodePackage, PythonPackages

# txsse itself is read from the checkout, so that what is measured is what stands there.
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
    What the clients find in their environment: txsse, and no proxy on the way to this machine.
    """
    return {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
