"""
Types of public arguments, for type checkers that do not know zope.interface.

To pyright, and to mypy without its plugin, a class does not implement the interfaces that ``@implementer``
names. Therefore such an argument is annotated with the interface and with a protocol of the same methods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorTime, IStreamServerEndpoint
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from twisted.web.resource import IResource, Resource

__all__ = ["AnyAgent", "AnyEndpoint", "AnyReactor", "AnyResource"]


class _Reactor(Protocol):
    def seconds(self) -> float: ...

    def callLater(  # noqa: N802
        self, delay: float, callable: Callable[..., object], /, *args: object
    ) -> object: ...


class _Agent(Protocol):
    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803
        /,
    ) -> Deferred[IResponse]: ...


class _Endpoint(Protocol):
    def listen(self, protocolFactory: IProtocolFactory, /) -> Deferred[IListeningPort]: ...  # noqa: N803


AnyReactor: TypeAlias = IReactorTime | _Reactor
AnyAgent: TypeAlias = IAgent | _Agent
AnyEndpoint: TypeAlias = IStreamServerEndpoint | _Endpoint
AnyResource: TypeAlias = IResource | Resource
