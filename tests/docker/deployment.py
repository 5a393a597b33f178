"""The files of deployment, read as what starts them reads them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
CHART = DOCKER / "helm" / "rag-server"
CHART_VALUES = ("values.yaml", "values-one-gpu.yaml", "values-fleet.yaml")


def compose() -> dict[str, Any]:
    """Return compose.yaml with variables that have no default set to `secret`."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (DOCKER / "compose.yaml").read_text())
    return yaml.safe_load(re.sub(r"\$\{\w+:\?[^}]*\}", "secret", text))


def image_environment() -> dict[str, str]:
    """Return what the Dockerfile's ENV gives to both images."""
    text = (DOCKER / "Dockerfile").read_text().split(" AS runtime\n")[1].split("\nFROM ")[0]
    block = re.search(r"^ENV (.*?[^\\])$", text, re.MULTILINE | re.DOTALL)
    assert block
    return dict(pair.split("=", 1) for pair in block.group(1).replace("\\\n", " ").split())


def rendered(values_file: str, **values: object) -> list[dict[str, Any]]:
    """Return the chart's manifests with that file of values, and `values` over it.

    Raises:
        helm_python.HelmError: The chart refuses them.
    """
    helm = pytest.importorskip("helm_python", reason="Helm is not installed (`pip install helm-python-sdk`)")
    merged = yaml.safe_load((CHART / values_file).read_text())
    for name, value in values.items():
        merged[name] = {**merged.get(name, {}), **value} if isinstance(value, dict) else value
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(merged, name="demo", namespace="rag")
    texts = [text for name, text in sorted(files.items()) if name.endswith(".yaml")]
    return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]


def containers(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the containers of the manifests by their names."""
    pods = [manifest["spec"]["template"]["spec"] for manifest in manifests if "template" in manifest.get("spec", {})]
    return {container["name"]: container for pod in pods for container in pod["containers"]}


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    """Return the variables of a container, without those from Secrets."""
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def dashboard() -> dict[str, Any]:
    """Return Grafana's dashboard."""
    return json.loads((DOCKER / "grafana" / "dashboards" / "rag-server.json").read_text())
