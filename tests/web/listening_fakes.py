"""
Fake endpoints and listening ports.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from zope.interface import implementer


class FakePort:
    """
    A listening port with a given address, which stops when the test says so.
    """

    def __init__(self, address: Any = IPv4Address("TCP", "127.0.0.1", 8080)) -> None:  # noqa: B008
        self.address = address
        self.stopped: Deferred[None] = Deferred()
        self.stopping = False

    def getHost(self) -> Any:  # noqa: N802
        return self.address

    def stopListening(self) -> Deferred[None]:  # noqa: N802
        self.stopping = True
        return self.stopped


@implementer(IStreamServerEndpoint)
class FakeEndpoint:
    """
    An endpoint whose outcome the test decides.
    """

    def __init__(self, result: Any = None) -> None:
        self.cancelled = False
        self.listening: Deferred[IListeningPort] = Deferred(self.cancel)
        if result is not None:
            self.listening = result if isinstance(result, Deferred) else self.listening
        if isinstance(result, FakePort):
            self.listening.callback(result)  # type: ignore[arg-type]

    def cancel(self, _: object) -> None:
        self.cancelled = True

    def listen(self, factory: object) -> Deferred[IListeningPort]:
        return self.listening
