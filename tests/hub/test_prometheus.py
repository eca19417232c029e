"""
The hub's metrics in the formats of Prometheus.
"""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.web.resource import Resource

from tests.fakes import Client, Wire
from txsse import Hub
from txsse.hub.prometheus import HubCollector, MetricsResource


def tree(hub: Hub) -> Resource:
    root = Resource()
    root.putChild(b"events", hub.resource("news"))
    root.putChild(b"metrics", MetricsResource(hub))
    return root


def scraped(client: Client) -> dict[str, float]:
    text = client.body.decode()
    return {
        sample.name + "".join(f"{{{name}={value}}}" for name, value in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class MetricsResourceTests:
    @pytest.fixture
    def hub(self, plain: Wire) -> Hub:
        return Hub(upgrader=plain.upgrader(), reactor=plain.reactor)

    def test_values(self, plain: Wire, hub: Hub) -> None:
        """
        Each scrape returns the hub's current counters and gauges.
        """
        web = tree(hub)
        staying = plain.connect(web).request("/events")
        going = plain.connect(web).request("/events")
        hub.publish("news", "x", id="1")
        staying.pump()
        going.disconnect()
        resumed = plain.connect(web).request("/events", headers={"Last-Event-ID": "gone"})
        scraper = plain.connect(web).request("/metrics")
        assert scraper.status == 200
        assert scraper.headers["content-type"].startswith("text/plain")
        got = scraped(scraper)
        assert got["txsse_channels"] == 2
        assert got["txsse_topics"] == 1
        assert got["txsse_replaying"] == 0
        assert got["txsse_buffered"] == 0
        assert got["txsse_published_total"] == 1
        # Two deliveries were live, one was a replay.
        assert got["txsse_delivered_total"] == 3
        assert got["txsse_replayed_total"] == 1
        assert got["txsse_gaps_total"] == 1
        assert got["txsse_damaged_total"] == 0
        assert got["txsse_bytes_total"] == hub.metrics().bytes > 3 * len("id: 1\ndata: x\n\n")
        assert got["txsse_slow_replays_total"] == got["txsse_drops_total"] == got["txsse_failures_total"] == 0
        assert got["txsse_closes_total{reason=client_gone}"] == 1
        assert got["txsse_closes_total{reason=drained}"] == 0
        assert got["txsse_fanout_seconds_count"] == got["txsse_fanout_seconds_bucket{le=+Inf}"] == 1
        # The fake clock stood still.
        assert got["txsse_fanout_seconds_bucket{le=0.0001}"] == 1
        assert got["txsse_fanout_seconds_sum"] == 0
        hub.publish("news", "y")
        plain.reactor.run_soon()
        again = scraped(plain.connect(web).request("/metrics"))
        assert again["txsse_published_total"] == 2
        for client in (staying, resumed):
            client.disconnect()

    def test_retained(self, plain: Wire, hub: Hub) -> None:
        """
        The gauges have the retained updates and their bytes, and a counter those that clients were sent.
        """
        web = tree(hub)
        for key in ("1", "2", "2"):
            hub.publish("news", "x", retain=key)
        clients = [plain.connect(web).request("/events") for _ in range(3)]
        hub.publish(["news", "sport"], "y", retain="3")
        plain.reactor.run_soon()
        got = scraped(plain.connect(web).request("/metrics"))
        assert got["txsse_retained"] == 4
        assert got["txsse_retained_bytes"] == hub.metrics().retained_bytes > 4 * len("data: x\n\n")
        assert got["txsse_retained_delivered_total"] == 6
        assert got["txsse_delivered_total"] == 9
        hub.unretain("news", "1")
        assert scraped(plain.connect(web).request("/metrics"))["txsse_retained"] == 3
        for client in clients:
            client.disconnect()

    def test_open_metrics(self, plain: Wire, hub: Hub) -> None:
        """
        A scraper that accepts OpenMetrics gets that format.
        """
        headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
        scraper = plain.connect(tree(hub)).request("/metrics", headers=headers)
        assert scraper.headers["content-type"].startswith("application/openmetrics-text")
        assert scraper.body.endswith(b"# EOF\n")

    def test_prefix(self, hub: Hub) -> None:
        """
        A prefix distinguishes the metrics of several hubs in one registry.
        """
        names = {metric.name for metric in HubCollector(hub, prefix="chat").collect()}
        assert "chat_published" in names
        assert all(name.startswith("chat_") for name in names)
