"""
Health checks and metrics of the service, for its operator and load balancer.

The paths::

    /health/live    200, as long as the process answers
    /health/ready   200 while updates can be published and subscribers accepted; 503 with the reason if not;
                    200 with a line that begins with "degraded" if updates of the journal are damaged
    /metrics        for Prometheus
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.web.http import Request
from twisted.web.resource import Resource

from txsse._extras import MissingExtra
from txsse.hub.hub import Hub
from txsse.web.responses import Branch, Sentence, send_response

__all__ = ["Health", "status_tree"]


class Health:
    """
    Whether the service is ready.

    :param hub: the hub.
    :ivar started: whether the hub has started.
    :ivar stopping: whether the service is stopping.
    """

    def __init__(self, hub: Hub) -> None:
        self.started = False
        self.stopping = False
        self._hub = hub

    @property
    def problem(self) -> str | None:
        """
        Why the service is not ready; ``None`` while it is.
        """
        if self.stopping:
            return "the service is stopping"
        if self._hub.problem is not None:
            return str(self._hub.problem)
        return None if self.started else "the journal has not started yet"

    @property
    def warning(self) -> str | None:
        """
        A problem that needs the operator's attention although the service is ready; ``None`` for none.
        """
        count = self._hub.damaged
        if not count:
            return None
        return (
            f"degraded: {count} damaged updates of the journal were skipped; clients that missed them get "
            "stream-reset; the log has their positions; check the disk, or the Redis, that holds the journal"
        )


def status_tree(hub: Hub, health: Health) -> Resource:
    """
    Make the web tree of the health checks and metrics.
    """
    root = Branch()
    healths = Branch()
    healths.putChild(b"live", _State(lambda: None))
    healths.putChild(b"ready", _State(lambda: health.problem, lambda: health.warning))
    root.putChild(b"health", healths)
    try:
        from txsse.hub.prometheus import MetricsResource
    except MissingExtra as error:
        problem = str(error)
        root.putChild(b"metrics", Sentence(503, problem))
    else:
        root.putChild(b"metrics", MetricsResource(hub))
    return root


class _State(Resource):
    isLeaf = True

    def __init__(
        self, problem: Callable[[], str | None], warning: Callable[[], str | None] = lambda: None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._problem = problem
        self._warning = warning

    def render(self, request: Request) -> int:
        problem = self._problem()
        text = problem or self._warning() or "ok"
        return send_response(request, 200 if problem is None else 503, text)
