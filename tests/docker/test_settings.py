"""What is set in the files of deployment are settings of the server, with values that it takes."""

import re
from pathlib import Path

import pytest
import yaml

from rag_server.config import load_settings, setting_names
from rag_server.loopback import is_loopback
from tests.docker.deployment import CHART_VALUES, DOCKER, compose, containers, environment_of, image_environment, rendered

FILES = [path for path in sorted(DOCKER.rglob("*")) if path.is_file() and path.name != ".env"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DOCKER)))
def test_every_setting_exists(path: Path) -> None:
    """Every RAG_ name in a file, in comments too, is a setting: others end the server at its start."""
    named = set(re.findall(r"\bRAG_[A-Z0-9_]*[A-Z0-9]", path.read_text()))

    assert named <= {name for name, _, _ in setting_names()}


@pytest.mark.parametrize("service", ["server-cpu", "server-gpu"])
def test_server_takes_what_compose_sets(service: str) -> None:
    """The image's variables with those of compose.yaml are settings; other machines reach it, and it asks for keys."""
    settings = load_settings({**image_environment(), **compose()["services"][service]["environment"]})

    assert not is_loopback(settings.host)
    assert settings.auth.required is True


def test_addresses_in_compose_are_services_of_the_same_profile() -> None:
    """Each host that the server on the GPU is told to reach is a service that is started with it."""
    services = compose()["services"]
    values = services["server-gpu"]["environment"].values()
    hosts = {host for value in values for host in re.findall(r"://(?:[^@/]*@)?([a-z]+)", str(value))}

    assert hosts == {"vllm", "postgres", "redis", "milvus"}
    assert all("gpu" in services[host]["profiles"] for host in hosts)


@pytest.mark.parametrize("values_file", CHART_VALUES)
def test_server_takes_what_the_chart_sets(values_file: str) -> None:
    """The image's variables with those of the chart are settings."""
    server = containers(rendered(values_file))["server"]

    settings = load_settings({**image_environment(), **environment_of(server)})
    assert settings.auth.required is True


@pytest.mark.parametrize("values_file", CHART_VALUES)
def test_values_of_the_chart_are_settings(values_file: str) -> None:
    """What stands under `settings` in the chart's values are settings with values that the server takes."""
    load_settings(yaml.safe_load((DOCKER / "helm" / "rag-server" / values_file).read_text()).get("settings") or {})
