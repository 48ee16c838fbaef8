"""Metrics sent to an OpenTelemetry collector: what arrives there, and what happens when it is away."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from pgferry.embedded import Cluster
from support.pooler import Pooler, eventually

Make = Callable[..., Pooler]


class Collector:
    """Takes what is sent, and says so; with `broken` it says that it cannot."""

    def __init__(self) -> None:
        self.metrics: dict[str, Any] = {}
        self.resource: dict[str, str] = {}
        self.broken = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(400 if outer.broken else 200)
                self.send_header("content-length", "0")
                self.end_headers()
                if not outer.broken:
                    outer.take(ExportMetricsServiceRequest.FromString(body))

            def log_message(self, *_args: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, request: ExportMetricsServiceRequest) -> None:
        for each in request.resource_metrics:
            self.resource = {a.key: a.value.string_value for a in each.resource.attributes}
            self.metrics = {m.name: m for scope in each.scope_metrics for m in scope.metrics}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1/metrics"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_what_arrives(make_pooler: Make, cluster: Cluster, collector: Collector) -> None:
    pooler = make_pooler(cluster, settings={"otlp_endpoint": collector.url, "otlp_interval": 0.5})
    with pooler.connect() as client:
        for _ in range(5):
            client.execute("SELECT 1")
        eventually(lambda: "pgferry_query_duration_seconds" in collector.metrics, 20)
        histogram = collector.metrics["pgferry_query_duration_seconds"].histogram
        assert histogram.aggregation_temporality == 2, "cumulative"
        point = histogram.data_points[0]
        assert {a.key: a.value.string_value for a in point.attributes} == {
            "database": "postgres",
            "user": "postgres",
        }
        assert sum(point.bucket_counts) == point.count >= 5
        assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
        assert list(point.explicit_bounds) == sorted(point.explicit_bounds)
        counter = collector.metrics["pgbouncer_stats_queries_pooled"].sum
        assert counter.is_monotonic
        assert collector.metrics["pgbouncer_up"].gauge.data_points[0].as_double == 1
        assert collector.resource["service.name"] == "pgferry"


def test_a_collector_that_is_away(make_pooler: Make, cluster: Cluster, collector: Collector) -> None:
    collector.broken = True
    pooler = make_pooler(cluster, settings={"otlp_endpoint": collector.url, "otlp_interval": 0.2})
    pooler.wait_log("metrics cannot be sent to")
    collector.broken = False
    pooler.wait_log("metrics are sent to .* again")
    assert pooler.log().count("cannot be sent") == 1
    pooler.connect().close()
