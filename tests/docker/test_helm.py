"""The chart gives manifests that Kubernetes takes, and refuses what cannot work. Needs Helm, as a package of Python."""

from typing import Any

import pytest
import yaml

from rag_server import __version__
from tests.docker.deployment import CHART, CHART_VALUES, containers, environment_of, image_environment, rendered

SECRETS = {"RAG_DATABASE__URL": "postgresql://rag@db/rag", "RAG_REDIS__URL": "redis://redis"}


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the manifests of that kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def pods_of(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the templates of the workloads' pods."""
    return [manifest["spec"]["template"] for manifest in manifests if "template" in manifest.get("spec", {})]


def refusal(values_file: str, **values: object) -> str:
    """Return what the chart says against these values."""
    helm = pytest.importorskip("helm_python", reason="Helm is not installed (`pip install helm-python-sdk`)")
    with pytest.raises(helm.HelmError) as refused:
        rendered(values_file, **values)
    return str(refused.value)


def test_version_is_the_projects() -> None:
    """The images that the chart names are those of this version."""
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_lint_finds_no_fault() -> None:
    """`helm lint` has no error and no warning."""
    helm = pytest.importorskip("helm_python", reason="Helm is not installed (`pip install helm-python-sdk`)")
    found = helm.lint(str(CHART))

    assert found["errors"] == []
    # 1 is information.
    assert [message for message in found["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("values_file", CHART_VALUES)
def test_kubernetes_takes_the_manifests(values_file: str) -> None:
    """Each manifest is valid by Kubernetes' own description, with no field that it does not know."""
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="`pip install kubernetes-validate` checks the chart"
    )
    for manifest in rendered(values_file):
        # Prometheus' operator brings its own kind.
        if manifest["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(manifest, "1.37", strict=True)


def test_one_gpu_is_one_server_with_the_model() -> None:
    """One pod with a GPU and the model's folder, which starts vLLM itself; nothing else runs."""
    manifests = rendered("values-one-gpu.yaml")
    server = containers(manifests)["server"]

    assert list(containers(manifests)) == ["server"]
    assert server["image"] == f"rag-server:{__version__}-gpu"
    assert server["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert environment_of(server)["RAG_ENGINE__MODEL"] == "/models/Qwen3-4B-Instruct"
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in server["volumeMounts"]
    assert of_kind(manifests, "PodDisruptionBudget") == []


def test_fleet_has_servers_and_engines() -> None:
    """Servers without GPUs ask vLLM through its service; both are spread, and at most one of each is taken away at a time."""
    manifests = rendered("values-fleet.yaml")
    server, vllm = (containers(manifests)[name] for name in ("server", "vllm"))
    asked = environment_of(server)["RAG_ENGINE__BASE_URL"].removeprefix("http://").removesuffix(":8000/v1")
    (service,) = [manifest for manifest in of_kind(manifests, "Service") if manifest["metadata"]["name"] == asked]
    (engines,) = of_kind(manifests, "Deployment")

    assert service["spec"]["selector"].items() <= engines["spec"]["template"]["metadata"]["labels"].items()
    assert (
        of_kind(manifests, "StatefulSet")[0]["spec"]["replicas"],
        of_kind(manifests, "Deployment")[0]["spec"]["replicas"],
    ) == (3, 4)
    assert "nvidia.com/gpu" not in str(server["resources"])
    assert vllm["resources"]["limits"] == {"nvidia.com/gpu": 1}
    assert {pdb["spec"]["maxUnavailable"] for pdb in of_kind(manifests, "PodDisruptionBudget")} == {1}
    assert len(of_kind(manifests, "PodDisruptionBudget")) == 2


@pytest.mark.parametrize("values_file", CHART_VALUES)
def test_services_and_budgets_choose_pods(values_file: str) -> None:
    """Each selector finds the pods of one workload, and the monitor finds a service of each."""
    manifests = rendered(values_file, serviceMonitor={"enabled": True})
    pods = [
        workload["spec"]["template"]["metadata"]["labels"] for workload in manifests if "template" in workload.get("spec", {})
    ]

    def num_chosen(selector: dict[str, str], labels: list[dict[str, str]]) -> int:
        return len([found for found in labels if selector.items() <= found.items()])

    for service in of_kind(manifests, "Service"):
        assert num_chosen(service["spec"]["selector"], pods) == 1
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        assert num_chosen(budget["spec"]["selector"]["matchLabels"], pods) == 1
    (monitor,) = of_kind(manifests, "ServiceMonitor")
    labels = [service["metadata"].get("labels", {}) for service in of_kind(manifests, "Service")]
    assert num_chosen(monitor["spec"]["selector"]["matchLabels"], labels) == len(pods)


@pytest.mark.parametrize("values_file", CHART_VALUES)
def test_pods_are_watched_and_end_in_order(values_file: str) -> None:
    """Liveness is /health, readiness /ready for the server; a pod is killed later than what runs in it is finished."""
    manifests = rendered(values_file)
    probes = ("startupProbe", "livenessProbe", "readinessProbe")
    watched = {
        name: [container[probe]["httpGet"]["path"] for probe in probes] for name, container in containers(manifests).items()
    }

    assert watched.pop("server") == ["/health", "/health", "/ready"]
    assert watched in ({}, {"vllm": ["/health", "/health", "/health"]})
    for pod in (template["spec"] for template in pods_of(manifests)):
        (container,) = pod["containers"]
        before_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        if container["name"] == "server":
            grace_s = int(environment_of(container)["RAG_LIMITS__SHUTDOWN_GRACE_S"])
        else:
            grace_s = next(int(word.split("=")[1]) for word in container["args"] if word.startswith("--shutdown-timeout="))
        assert pod["terminationGracePeriodSeconds"] >= before_s + grace_s + 30


@pytest.mark.parametrize("values_file", CHART_VALUES)
def test_pods_have_no_rights(values_file: str) -> None:
    """No root, no capabilities, no token and no variables of Kubernetes, and a root file system that cannot be written."""
    for pod in (template["spec"] for template in pods_of(rendered(values_file))):
        (container,) = pod["containers"]
        written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}

        assert pod["securityContext"]["runAsNonRoot"] is True
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {image_environment()["RAG_DATA_DIR"], "/tmp"} <= written


def test_secrets_come_from_the_chart_or_from_elsewhere() -> None:
    """Passwords given as values are in a Secret alone; a Secret that is there already is used, and none is made."""
    manifests = rendered("values.yaml", secret={"values": SECRETS}, server={"replicas": 2})
    (secret,) = of_kind(manifests, "Secret")
    others = [manifest for manifest in manifests if manifest is not secret]

    assert secret["stringData"] == SECRETS
    assert "postgresql://" not in str(others)
    assert containers(manifests)["server"]["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
    fleet = rendered("values-fleet.yaml")
    assert of_kind(fleet, "Secret") == []
    assert containers(fleet)["server"]["envFrom"] == [{"secretRef": {"name": "rag-server-secrets"}}]


@pytest.mark.parametrize(
    ("values_file", "values", "said"),
    [
        ("values.yaml", {"server": {"replicas": 2}}, "more than one server needs RAG_DATABASE__URL"),
        ("values.yaml", {"server": {"replicas": 2}, "secret": {"values": {"RAG_DATABASE__URL": "x"}}}, "RAG_REDIS__URL"),
        ("values.yaml", {"vllm": {"replicas": 1}}, "vLLM needs a model"),
        ("values.yaml", {"model": {"claim": "models"}}, "set both claim and folder"),
        ("values-fleet.yaml", {"secret": {"existing": "x", "values": SECRETS}}, "not both"),
        ("values.yaml", {"server": {"replcas": 2}}, "replcas"),
        ("values.yaml", {"settings": {"RAG_PORT": 8000}}, "RAG_PORT"),
        ("values.yaml", {"model": {"claim": "models", "folder": "../etc"}}, "folder"),
    ],
)
def test_what_cannot_work_is_refused(values_file: str, values: dict[str, Any], said: str) -> None:
    """Values that contradict each other, or do not exist, are refused with a message that names them."""
    assert said in refusal(values_file, **values)
