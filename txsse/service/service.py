"""
The service of ``twist txsse``: a :class:`~txsse.HubService`, and beside it health checks and notifications.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.errors import HubStopped, ListenFailed
from txsse.hub.service import HubService
from txsse.service.status import Health
from txsse.service.systemd_notify import Notifier
from txsse.web.listening import Listeners
from txsse.web.site import ClosingSite

__all__ = ["HTTPService"]

_log = Logger()


class HTTPService(Service):
    """
    Serves a hub, and its health checks while it starts and until it has stopped.

    :param serving: the service of the hub.
    :param health: records whether the hub has started, and is stopping.
    :param admin: the site of the health checks and its listeners, which stop last.
    :param notifier: notifies the service manager.
    """

    def __init__(
        self,
        serving: HubService,
        *,
        health: Health | None = None,
        admin: tuple[ClosingSite, Listeners] | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self._serving = serving
        self._health = health
        self._admin = admin
        self._notifier = notifier or Notifier({})

    def privilegedStartService(self) -> None:
        """
        Listen before ``twistd`` gives up its privileges.

        :raises SystemExit: with one line, if an endpoint cannot listen.
        """
        self._listen(lambda service: service.privilegedStartService())

    def startService(self) -> None:
        """
        Listen, and start the hub.

        :raises SystemExit: with one line, if an endpoint cannot listen.
        """
        self._listen(lambda service: service.startService())
        Service.startService(self)
        self._serving.when_ready().addCallback(self._is_ready).addErrback(_is_not_ready)

    def _listen(self, listen: Callable[[HubService | Listeners], None]) -> None:
        try:
            if self._admin is not None:
                listen(self._admin[1])
            listen(self._serving)
        except ListenFailed as error:
            if self._admin is not None:
                self._admin[1].stopService()
            raise SystemExit(f"twist txsse: {error}") from None

    def _is_ready(self, _: None) -> None:
        if self._health is not None:
            self._health.started = True
        self._notifier.ready()

    def stopService(self) -> Deferred[None]:
        """
        Stop listening, end all streams and close all connections.

        :returns: a Deferred that fires when this is done, and the reactor has no calls or connections of the
            service left.
        """
        Service.stopService(self)
        self._notifier.stopping()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._health is not None:
            self._health.stopping = True
        await self._serving.stopService()
        if self._admin is not None:
            site, listeners = self._admin
            await listeners.stopService()
            await site.close()


def _is_not_ready(failure: Failure) -> None:
    # A service that is stopped while it starts has not failed.
    if not failure.check(HubStopped):
        _log.failure("the start of the service cannot be reported", failure)
