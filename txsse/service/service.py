"""
The service that serves a web tree: it starts listeners and tree, and stops them in order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Protocol

from twisted.application.service import IService, MultiService
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.errors import JournalFailed
from txsse.service.systemd_notify import Notifier
from txsse.web.site import ClosingSite

__all__ = ["HTTPService", "Tree"]

_log = Logger()


class Tree(Protocol):
    """
    The part of a web tree that starts and stops with its service.
    """

    def start(self) -> Awaitable[None]:
        """
        Start what takes time, such as a journal. The service listens meanwhile.
        """

    def stop(self) -> Awaitable[None]:
        """
        End all streams; return when they have ended.
        """


class HTTPService(MultiService):
    """
    Serves a web tree on all of its endpoints.

    :param reactor: the reactor.
    :param tree: the web tree.
    :param site: the site that serves the tree.
    :param listeners: the listeners of the site.
    :param admin: the site of the health checks and its listeners, which stop last.
    :param notifier: notifies the service manager.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        tree: Tree,
        site: ClosingSite,
        listeners: Iterable[IService],
        *,
        admin: tuple[ClosingSite, MultiService] | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        MultiService.__init__(self)
        for listener in listeners:
            MultiService.addService(self, listener)
        self._reactor = reactor
        self._tree = tree
        self._site = site
        self._admin = admin
        self._notifier = notifier or Notifier({})
        self._starting: Deferred[None] | None = None

    def privilegedStartService(self) -> None:
        """
        Listen before ``twistd`` gives up its privileges.
        """
        if self._admin is not None:
            self._admin[1].privilegedStartService()
        MultiService.privilegedStartService(self)

    def startService(self) -> None:
        """
        Listen, and start the tree. A failure of the hub's journal is logged by the hub.
        """
        if self._admin is not None:
            self._admin[1].startService()
        MultiService.startService(self)
        self._starting = started = Deferred.fromCoroutine(_await(self._tree.start()))
        started.addCallback(lambda _: self._notifier.ready()).addErrback(_did_not_start)

    def stopService(self) -> Deferred[None]:
        """
        Stop listening, end all streams and close all connections.

        :returns: a Deferred that fires when this is done, and the reactor has no calls or connections of the
            service left.
        """
        self._notifier.stopping()
        if self._starting is not None:
            self._starting.cancel()
        return Deferred.fromCoroutine(self._stop(MultiService.stopService(self)))

    async def _stop(self, listeners_stopped: Deferred[object]) -> None:
        await listeners_stopped
        await self._tree.stop()
        # In the same turn of the reactor, so that no open connection sends a request in between.
        await self._site.close()
        if self._admin is not None:
            site, listeners = self._admin
            await listeners.stopService()
            await site.close()
        # A stream's handler is cancelled in the turn after its end.
        await deferLater(self._reactor, 0)


def _did_not_start(failure: Failure) -> None:
    # The failure of a journal is already logged.
    if not failure.check(CancelledError, JournalFailed):
        _log.failure("the service did not start", failure)


async def _await(work: Awaitable[None]) -> None:
    await work
