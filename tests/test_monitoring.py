"""Dashboard, alerts and autoscaler ask only for metrics that the service has."""

import json
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from aiohttp.web import RouteDef
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics
from gateway.routes import routes
from musicgen_engine.metrics import COUNTERS, GAUGES
from tests.conftest import ROOT
from tests.test_chart import CHART, of_kind, render, values
from tests.test_containers import COMPOSE

SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
MONITORING = ROOT / "deploy" / "monitoring"


def metrics() -> set[str]:
    """The names of all time series."""
    gateway = text_string_to_metric_families(Metrics().page().decode())
    names = {family.name + suffix for family in gateway for suffix in SUFFIXES[family.type]}
    return names | {name for name, _ in [*GAUGES.values(), *COUNTERS.values()]}


def asked(query: str) -> set[str]:
    """The names of the metrics in a query; a wrong query raises ValueError."""
    names: set[str] = set()

    def note(expression: Any) -> None:
        if isinstance(expression, promql_parser.VectorSelector) and expression.name:
            names.add(expression.name)

    promql_parser.walk(promql_parser.parse(query), note)
    return names


def dashboard() -> Any:
    return json.loads((CHART / "files" / "dashboard.json").read_text())


def panel_queries() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"].replace("$__rate_interval", "1m")


def alert_queries() -> Iterator[str]:
    for group in yaml.safe_load((CHART / "files" / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def autoscaler_queries() -> Iterator[str]:
    manifests = render(values(CHART / "ci" / "gpu-values.yaml"))
    for scaled in of_kind(manifests, "ScaledObject").values():
        for trigger in scaled["spec"]["triggers"]:
            yield trigger["metadata"]["query"]


@pytest.mark.parametrize("queries", [panel_queries, alert_queries, autoscaler_queries])
def test_every_metric_of_a_query_exists(queries: Any) -> None:
    names = [asked(query) for query in queries()]
    assert names and all(names)
    assert set.union(*names) - metrics() == set()


def test_the_dashboard_shows_every_metric() -> None:
    shown = set.union(*map(asked, panel_queries()))
    unseen = {"gateway_audio_seconds_total", "gateway_first_audio_seconds_sum"}
    unseen.add("gateway_first_audio_seconds_count")
    assert metrics() - shown == unseen


def test_alerts_about_songs_count_no_probes_and_no_changes() -> None:
    """Those are refused, too: a probe while the model loads, a change that comes too soon."""
    counts = [query for query in alert_queries() if "gateway_requests_total" in query]
    assert counts and all('{route="/generate",' in query for query in counts)
    assert "/generate" in {route.path for route in routes if isinstance(route, RouteDef)}


def test_panels_do_not_overlap() -> None:
    places: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        x, y, width, height = (panel["gridPos"][side] for side in "xywh")
        cells = {(x + i, y + j) for i in range(width) for j in range(height)}
        assert x + width <= 24 and not cells & places
        places |= cells


def test_alerts_say_what_they_mean() -> None:
    [group] = yaml.safe_load((CHART / "files" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_compose_mounts_files_that_exist() -> None:
    services = yaml.safe_load((ROOT / COMPOSE).read_text())["services"]
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["monitoring"]
        files = [volume.split(":")[0] for volume in services[name]["volumes"]]
        mounted = [file for file in files if file.startswith("./")]
        assert mounted and all((ROOT / file).is_file() for file in mounted)


def test_prometheus_scrapes_the_ports_of_compose() -> None:
    services = yaml.safe_load((ROOT / COMPOSE).read_text())["services"]
    [job] = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    for target in job["static_configs"][0]["targets"]:
        service, _, port = target.partition(":")
        assert any(published.endswith(f":{port}") for published in services[service]["ports"])
