"""
:class:`HubService`: a hub and its site as a Twisted service, which starts and stops them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Site

from txsse._arguments import check_number, wrong_type
from txsse._backoff import Backoff
from txsse._randomness import randomness_of
from txsse._typing import AnyEndpoint
from txsse._unhandled import Unhandled
from txsse._waiters import SharedCall, Waiters
from txsse.errors import HubStopped, JournalFailed, ListenFailed
from txsse.hub.hub import Hub
from txsse.protocol.event import ServerSentEvent
from txsse.server.channel import SSEChannel
from txsse.server.shutdown import shutdown_of
from txsse.server.site_channels import channels_on
from txsse.web.listening import Listeners, as_endpoints
from txsse.web.site import ClosingSite

__all__ = ["HubService"]

_log = Logger()

# The delay before the next attempt to start the journal: the first and the longest, in seconds.
_RETRY = (1.0, 10.0)

# A service that stops before its hub is ready is no failure.
_UNHANDLED = Unhandled(None, HubStopped)


class HubService(Service):
    """
    Serves a site with a hub: it listens, and at the end drains the hub and closes the connections.

    In the ``.tac`` file of ``twistd``, or as a part of a :class:`~twisted.application.service.MultiService`::

        hub = Hub(journal=SQLiteJournal("hub.sqlite"))
        root = Resource()
        root.putChild(b"news", hub.resource("news"))
        service = HubService(hub, BoundedSite(root, reactor=reactor), "tcp:8080")
        application = Application("news")
        service.setServiceParent(application)

    ``privilegedStartService`` listens, before ``twistd`` gives up its privileges. ``startService`` starts the
    hub's journal; while that fails, it tries again with growing delays, and the hub logs the problem.
    ``stopService`` stops listening, ends all streams, and closes the remaining connections. Its Deferred
    fires when this is done and the service has left nothing in the reactor. Stopping a service twice, or
    before it has started, does nothing.

    Before it starts, the service opens no socket, file or thread, so that ``twistd`` may daemonise. A hub
    does not start again once it has stopped, and neither does its service.

    :param hub: the hub. It is started and stopped by this service only.
    :param site: a :class:`txsse.web.BoundedSite` with the web tree, in which the hub's resources are. A
        :class:`twisted.web.server.Site` is refused, because it cannot close its connections.
    :param endpoints: an endpoint string, such as ``"tcp:8080"``, ``"ssl:443:privateKey=server.pem"``,
        ``"unix:/run/hub.sock"``, ``"haproxy:tcp:8080"`` behind a proxy that sends the PROXY protocol, or
        ``"systemd:domain=INET:index=0"``; an
        :class:`~twisted.internet.interfaces.IStreamServerEndpoint`; or several of these.
    :param shutdown_timeout: how long clients may take to read the rest of their streams when the service
        stops, in seconds. The journal has one more second if the clients used up the time; connections that
        are still open then have five more.
    :param farewell: a last event for every subscriber of the hub; ``None`` for none. Each subscriber also
        gets a random reconnection delay, to avoid a thundering herd: see :meth:`Hub.stop`.
    :param on_listening: called with the URL of each endpoint once it listens; ``None`` to log the URL. An
        endpoint without a URL is named by its string.
    :raises ValueError: for an invalid endpoint string, no endpoint, and a time-out that is not positive.
    :raises TypeError: for arguments of another type.
    """

    def __init__(
        self,
        hub: Hub,
        site: ClosingSite,
        endpoints: str | AnyEndpoint | Iterable[str | AnyEndpoint],
        *,
        shutdown_timeout: float = 10.0,
        farewell: ServerSentEvent | None = None,
        on_listening: Callable[[str], object] | None = None,
    ) -> None:
        if not isinstance(hub, Hub):
            raise wrong_type("hub", hub, "a Hub")
        if not isinstance(site, ClosingSite):
            raise _not_site(site)
        check_number("shutdown_timeout", shutdown_timeout, "a number of seconds")
        if not shutdown_timeout > 0:
            raise ValueError(
                f"shutdown_timeout must be a positive number of seconds, not {shutdown_timeout!r}"
            )
        if farewell is not None and not isinstance(farewell, ServerSentEvent):
            raise wrong_type("farewell", farewell, "a ServerSentEvent or None")
        if on_listening is not None and not callable(on_listening):
            raise wrong_type("on_listening", on_listening, "callable with a URL, or None")
        self._hub = hub
        self._site = site
        self._listeners = Listeners(as_endpoints(hub.reactor, endpoints), site, on_listening or _log_url)
        self._shutdown_timeout = float(shutdown_timeout)
        self._farewell = farewell
        self._has_begun = False
        self._is_ready = False
        self._ready: Waiters[None] = Waiters()
        self._starting: Deferred[None] | None = None
        self._stopping: SharedCall[None] = SharedCall()

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped" if self._hub.is_stopping else "not started"
        return f"<HubService {state}>"

    def privilegedStartService(self) -> None:
        """
        Listen on all endpoints, or on none. ``twistd`` calls this before it gives up its privileges.

        :raises ListenFailed: if an endpoint cannot listen. The error is logged, too.
        :raises RuntimeError: if the hub has been stopped.
        """
        self._begin(self._listeners.privilegedStartService)

    def startService(self) -> None:
        """
        Listen, unless :meth:`privilegedStartService` has done so, and start the hub's journal.

        :raises ListenFailed: as :meth:`privilegedStartService` does, like :exc:`RuntimeError`.
        """
        self._begin(self._listeners.startService)
        Service.startService(self)
        if self._starting is None:
            self._starting = starting = Deferred.fromCoroutine(self._start())
            starting.addErrback(_did_not_start)

    def when_ready(self) -> Deferred[None]:
        """
        Wait until the service has started the hub's journal, so that updates can be published.

        :returns: a Deferred that fails with :exc:`~txsse.errors.HubStopped` if the service stops before that.
        """
        if self._is_ready:
            return succeed(None)
        waiting = fail(HubStopped()) if self._hub.is_stopping else self._ready.wait()
        return _UNHANDLED.watch(waiting, "service.when_ready")

    def stopService(self) -> Deferred[None]:
        """
        Stop listening, end all streams and close all connections.

        :returns: a Deferred that fires when this is done, and does not fail.
        """
        Service.stopService(self)
        if not self._has_begun and not self._stopping.is_running:
            return succeed(None)
        return self._stopping.join(self._stop)

    async def end_streams(self) -> None:
        """
        End all streams; :meth:`stopService` calls this when the service no longer listens.

        A subclass that ends streams in its own way overrides it, and calls it last.
        """
        reactor, timeout = self._hub.reactor, self._shutdown_timeout
        subscribed = {subscriber.channel for subscriber in self._hub.subscribers}
        others = [channel for channel in channels_on(self._site) if channel not in subscribed]
        _log.info("Stopping: {count} streams are open", count=len(subscribed) + len(others))
        await gatherResults(
            [
                self._hub.stop(farewell=self._farewell, deadline=timeout),
                Deferred.fromCoroutine(_end_others(others, reactor, timeout)),
            ]
        )

    def _begin(self, listen: Callable[[], None]) -> None:
        if self._hub.is_stopping:
            raise RuntimeError(
                "the hub of this service has been stopped, and does not start again; make a new Hub and a "
                "new HubService"
            )
        try:
            listen()
        except ListenFailed as error:
            # A twistd that has daemonised shows only the beginning of the exception.
            _log.error("{problem}", problem=str(error))
            raise
        self._has_begun = True

    async def _start(self) -> None:
        # A load balancer sends no requests to a node that is not ready, so no request would start the
        # journal.
        reactor = self._hub.reactor
        delay = Backoff(*_RETRY, randomness=lambda: randomness_of(reactor))
        while True:
            try:
                await self._hub.start()
            except JournalFailed:
                # The hub has logged it.
                await deferLater(reactor, delay.next())
            else:
                self._is_ready = True
                self._ready.fire(None)
                return

    async def _stop(self) -> None:
        self._has_begun = False
        if self._starting is not None:
            self._starting.cancel()
        if not self._is_ready:
            self._ready.fail(HubStopped())
        await self._listeners.stopService()
        try:
            await self.end_streams()
        except Exception:
            # Close the connections all the same.
            _log.failure("the streams of the service did not end properly")
        # In the same turn of the reactor, so that no open connection sends a request in between.
        await self._site.close()
        # A stream's handler is cancelled in the turn after its end.
        await deferLater(self._hub.reactor, 0)
        _log.info("Stopped: all streams have ended, and all connections are closed")


async def _end_others(channels: list[SSEChannel], reactor: IReactorTime, timeout: float) -> None:
    """
    End the channels that no subscriber of the hub has: those of handlers, and of other hubs.
    """
    ending = Deferred.fromCoroutine(shutdown_of(reactor).end(channels))
    # The time-out cancels the waiting. The connections are closed next.
    await ending.addTimeout(timeout, reactor)


def _log_url(url: str) -> None:
    _log.info("Listening at {url}", url=url)


def _did_not_start(failure: Failure) -> None:
    # A service that stops while it starts has not failed.
    if not failure.check(CancelledError, HubStopped):
        _log.failure("the service did not start", failure)


def _not_site(value: object) -> TypeError:
    error = wrong_type("site", value, "a txsse.web.BoundedSite, which can close its connections")
    if isinstance(value, Site):
        return TypeError(f"{error}; write BoundedSite(root, reactor=reactor) instead of Site(root)")
    if IResource.providedBy(value):
        return TypeError(f"{error}; write BoundedSite(resource, reactor=reactor)")
    return error
