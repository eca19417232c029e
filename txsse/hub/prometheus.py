"""
A hub's metrics for Prometheus. It needs the package ``prometheus-client``: ``pip install txsse[metrics]``.
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted.web.http import Request
from twisted.web.resource import Resource

from txsse._extras import needs
from txsse.errors import CloseReason
from txsse.hub.hub import Hub
from txsse.hub.metrics import FANOUT_BUCKETS
from txsse.web.responses import send_response

with needs("metrics", "exporting metrics"):
    from prometheus_client import CollectorRegistry, exposition
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector

__all__ = ["HubCollector", "MetricsResource"]

_GAUGES = {
    "channels": "Channels that are open.",
    "topics": "Topics that somebody wants.",
    "journal_up": "Whether the journal can be read and written.",
    "replaying": "Channels that replay from the journal.",
    "buffered": "Bytes buffered for slow readers.",
}

_COUNTERS = {
    "published": "Updates that the journal brought.",
    "delivered": "Events handed over to a channel, live or by replay.",
    "bytes": "The bytes of these events.",
    "replayed": "Those of these events that came out of the journal.",
    "damaged": "Updates of the journal that could not be read, and were skipped.",
    "gaps": "How often a client was told that it missed something.",
    "slow_replays": "How often a slow reader was moved to replay.",
    "drops": "Events that were given up for slow readers.",
    "failures": "Subscribers that were dropped because of an error.",
}


class HubCollector(Collector):
    """
    Collects a hub's metrics, for any registry.

    :param hub: the hub.
    :param prefix: what the names of the metrics begin with.
    """

    def __init__(self, hub: Hub, *, prefix: str = "txsse") -> None:
        self._hub = hub
        self._prefix = prefix

    def collect(self) -> Iterator[Metric]:
        """
        Bring the metrics as they are now.
        """
        metrics = self._hub.metrics()
        for name, explained in _GAUGES.items():
            yield GaugeMetricFamily(f"{self._prefix}_{name}", explained, value=getattr(metrics, name))
        for name, explained in _COUNTERS.items():
            yield CounterMetricFamily(f"{self._prefix}_{name}", explained, value=getattr(metrics, name))
        closes = CounterMetricFamily(f"{self._prefix}_closes", "Channels that ended.", labels=["reason"])
        for reason in CloseReason:
            closes.add_metric([reason.name.lower()], metrics.closes.get(reason, 0))
        yield closes
        buckets = [
            (str(bound), count) for bound, count in zip(FANOUT_BUCKETS, metrics.fanout_buckets, strict=True)
        ]
        yield HistogramMetricFamily(
            f"{self._prefix}_fanout_seconds",
            "How long it took to hand a turn's updates to all of their subscribers.",
            buckets=[*buckets, ("+Inf", metrics.fanouts)],
            sum_value=metrics.fanout_seconds,
        )


class MetricsResource(Resource):
    """
    A resource with a hub's metrics in the text format of Prometheus::

        root.putChild(b"metrics", MetricsResource(hub))

    Whoever may not see how busy the hub is must not see this; put it on an endpoint of its own.

    :param hub: the hub.
    """

    isLeaf = True

    def __init__(self, hub: Hub) -> None:
        Resource.__init__(self)
        self._registry = CollectorRegistry()
        self._registry.register(HubCollector(hub))

    def render_GET(self, request: Request) -> int:
        """
        Bring the metrics as they are now.
        """
        accept = request.getHeader(b"Accept") or b""
        encode, content_type = exposition.choose_encoder(accept.decode("latin-1"))
        text: bytes = encode(self._registry)
        return send_response(request, 200, text, content_type=content_type.encode("ascii"))
