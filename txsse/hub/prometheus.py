"""
A hub's metrics for Prometheus.

This module needs the package ``prometheus-client``: ``pip install txsse[metrics]``.
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
    "channels": "Open channels.",
    "topics": "Topics with at least one subscriber.",
    "journal_up": "Whether the journal can be read and written.",
    "replaying": "Channels that replay from the journal.",
    "buffered": "Bytes buffered for slow readers.",
    "retained": "Retained updates; an update that is retained under two topics counts twice.",
    "retained_bytes": "Bytes of the retained updates, approximately.",
}

_COUNTERS = {
    "published": "Updates received from the journal, from all nodes.",
    "delivered": "Events handed over to a channel, live or by replay.",
    "bytes": "Bytes of the delivered events.",
    "replayed": "Delivered events that were read from the journal.",
    "retained_delivered": "Delivered events that were retained, and sent when a stream opened.",
    "damaged": "Updates of the journal that could not be read, and were skipped.",
    "gaps": "How often a client was notified of a gap.",
    "slow_replays": "How often a slow reader was moved to replay.",
    "drops": "Events that were dropped for slow readers.",
    "failures": "Subscribers whose channels were aborted because of an unexpected error.",
}


class HubCollector(Collector):
    """
    Collects a hub's metrics, for any Prometheus registry.

    :param hub: the hub.
    :param prefix: the prefix of the metrics' names.
    """

    def __init__(self, hub: Hub, *, prefix: str = "txsse") -> None:
        self._hub = hub
        self._prefix = prefix

    def collect(self) -> Iterator[Metric]:
        """
        Return the present metrics.
        """
        metrics = self._hub.metrics()
        for name, explained in _GAUGES.items():
            yield GaugeMetricFamily(f"{self._prefix}_{name}", explained, value=getattr(metrics, name))
        for name, explained in _COUNTERS.items():
            yield CounterMetricFamily(f"{self._prefix}_{name}", explained, value=getattr(metrics, name))
        closes = CounterMetricFamily(f"{self._prefix}_closes", "Closed channels.", labels=["reason"])
        for reason in CloseReason:
            closes.add_metric([reason.name.lower()], metrics.closes.get(reason, 0))
        yield closes
        buckets = [
            (str(bound), count) for bound, count in zip(FANOUT_BUCKETS, metrics.fanout_buckets, strict=True)
        ]
        yield HistogramMetricFamily(
            f"{self._prefix}_fanout_seconds",
            "How long it took to send a batch of updates to all of their subscribers.",
            buckets=[*buckets, ("+Inf", metrics.fanouts)],
            sum_value=metrics.fanout_seconds,
        )


class MetricsResource(Resource):
    """
    Serves a hub's metrics in the text format of Prometheus.

    ::

        root.putChild(b"metrics", MetricsResource(hub))

    The metrics disclose how busy the hub is. To keep them from clients, serve them on a separate endpoint.

    :param hub: the hub.
    """

    isLeaf = True

    def __init__(self, hub: Hub) -> None:
        Resource.__init__(self)
        self._registry = CollectorRegistry()
        self._registry.register(HubCollector(hub))

    def render_GET(self, request: Request) -> int:
        """
        Answer with the present metrics, in the format that the ``Accept`` header asks for.
        """
        accept = request.getHeader(b"Accept") or b""
        encode, content_type = exposition.choose_encoder(accept.decode("latin-1"))
        text: bytes = encode(self._registry)
        return send_response(request, 200, text, content_type=content_type.encode("ascii"))
