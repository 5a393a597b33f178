"""The dashboard shows what is measured: each metric and label in it is one of the server's, of vLLM's or of Python's."""

import importlib.util
import re
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from tests.docker.deployment import DOCKER, dashboard

EXPRESSIONS = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])]
# What Prometheus adds to each series, and to each bucket.
OF_PROMETHEUS = {"job", "instance", "le"}
METRIC = re.compile(r"\b((?:rag|process|vllm:)[a-z_:]*)\{([^}]*)\}")


def selectors() -> list[tuple[str, set[str]]]:
    """Return each metric in the dashboard with the labels that it is chosen or grouped by."""
    variable = dashboard()["templating"]["list"][0]["query"]["query"]
    found = []
    for expression in [*EXPRESSIONS, variable]:
        grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
        for name, chosen in METRIC.findall(expression):
            found.append((name, grouped | set(re.findall(r"(\w+)=", chosen))))
    return found


def test_every_metric_of_the_server_is_exposed(server: httpx.Client) -> None:
    """/metrics of a running server has every metric of the dashboard that is the server's own, with those labels."""
    families = list(text_string_to_metric_families(server.get("/metrics").text))
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket"]}
    exposed = {f"{family.name}{suffix}" for family in families for suffix in suffixes.get(family.type, [])}
    own = [(name, labels) for name, labels in selectors() if not name.startswith("vllm:")]

    assert len({name for name, _ in own}) > 15
    assert {name for name, _ in own} <= exposed
    for name, labels in own:
        # Python's own collector declares no labels.
        declared = set(getattr(REGISTRY._names_to_collectors[name], "_labelnames", ()))
        assert labels - OF_PROMETHEUS <= declared, name


def test_every_metric_of_vllm_exists() -> None:
    """The installed vLLM declares every metric of the dashboard that is its own."""
    found = importlib.util.find_spec("vllm")
    assert found
    assert found.origin
    sources = (Path(found.origin).parent / "v1" / "metrics").glob("*.py")
    declared = set(re.findall(r'"(vllm:[a-z_]+)"', "".join(path.read_text() for path in sources)))
    named = {re.sub(r"_(total|bucket)$", "", name) for name, _ in selectors() if name.startswith("vllm:")}

    assert len(named) == 6
    assert named <= declared


def test_every_expression_names_a_metric() -> None:
    """No panel is empty, and none shows a series that the tests above do not look at."""
    assert all(METRIC.search(expression) for expression in EXPRESSIONS)
    assert all(panel.get("targets") for panel in dashboard()["panels"] if panel["type"] != "row")


def test_expressions_are_well_formed() -> None:
    """Prometheus' grammar takes every expression."""
    promql_parser = pytest.importorskip("promql_parser", reason="`pip install promql-parser` checks the dashboard")

    for expression in EXPRESSIONS:
        promql_parser.parse(expression.replace("$__rate_interval", "1m").replace("$instance", ".*"))


def test_jobs_are_those_that_are_scraped() -> None:
    """The jobs that the dashboard chooses are in prometheus.yml, at services and ports that exist."""
    jobs = {job for expression in EXPRESSIONS for job in re.findall(r'job="(\w+)"', expression)}
    scraped = {entry["job_name"]: entry for entry in yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"]}

    assert jobs == {"server", "vllm"}
    for job in jobs:
        (found,) = scraped[job]["dns_sd_configs"]
        assert (found["names"], found["port"]) == ([job], 8000)


def test_grafana_finds_the_dashboard_and_its_data() -> None:
    """The dashboard's data source is the one that is provisioned, and its folder the one that is mounted."""
    provisioning = DOCKER / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "rag-server.yaml").read_text())["providers"]
    grafana = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["grafana"]
    uids = {panel["datasource"]["uid"] for panel in dashboard()["panels"] if "datasource" in panel}

    assert uids == {source["uid"]}
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    assert source["url"] == "http://prometheus:9090"
