"""compose.yaml is what Compose takes, and fits the images and files beside it."""

import json
import re
import subprocess
from typing import Any

import pytest

from rag_server import __version__
from rag_server.config import LimitsSettings
from rag_server.engines.vllm_process import NO_MEDIA_DOMAIN
from rag_server.engines.vllm_tasks import GENERATE
from tests.docker.deployment import DOCKER, ROOT, compose, containers, rendered

SERVICES = compose()["services"]


def seconds(duration: str) -> float:
    """Return the seconds of a duration such as 90s."""
    assert duration.endswith("s"), duration
    return float(duration.removesuffix("s"))


def test_compose_takes_it() -> None:
    """The file is valid by the Compose specification."""
    compose_spec = pytest.importorskip("compose_spec", reason="`pip install compose-spec` checks compose.yaml")

    compose_spec.PyCompose.from_json(json.dumps(compose())).to_spec()


def test_profiles() -> None:
    """Profile cpu is the server alone; gpu has everything that it can be given, and no service is in neither."""
    by_profile: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for profile in service["profiles"]:
            by_profile.setdefault(profile, set()).add(name)

    others = {"vllm", "redis", "postgres", "milvus", "prometheus", "grafana"}
    assert by_profile == {"cpu": {"server-cpu"}, "gpu": {"server-gpu", *others}}


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    """Each image has a whole version as its tag; our own is this version's, and is not looked for elsewhere."""
    repository, tag = SERVICES[name]["image"].split(":")

    if repository == "rag-server":
        assert tag == f"{__version__}-{'cpu' if name.endswith('cpu') else 'gpu'}"
        assert SERVICES[name]["pull_policy"] == "never"
    else:
        assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?", tag)


def test_make_builds_the_images() -> None:
    """`make docker-build` gives the image the name that compose.yaml starts."""
    command = ["make", "--dry-run", "docker-build", "EXTRA=gpu"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert f"--target gpu --build-arg PIP_EXTRA_INDEX_URL --tag {SERVICES['server-gpu']['image']} ." in printed


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_open_to_other_machines(name: str) -> None:
    """Ports are published on loopback alone, and no container takes rights that it is not given."""
    service = SERVICES[name]

    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert not {"privileged", "cap_add", "network_mode", "pid"} & service.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_exists(name: str) -> None:
    """What is mounted from beside the file is there, and every volume is declared."""
    for volume in SERVICES[name].get("volumes", []):
        if isinstance(volume, dict):
            # The model is the user's: without it the start fails, instead of an empty folder being made.
            assert volume["bind"] == {"create_host_path": False}
            continue
        source = volume.split(":")[0]
        assert (DOCKER / source).exists() if source.startswith(".") else source in compose()["volumes"]


def test_a_stop_waits_for_running_requests() -> None:
    """Containers are killed later than the server, and vLLM, end by themselves."""
    grace_s = LimitsSettings().shutdown_grace_s

    for name in ("server-cpu", "server-gpu"):
        assert seconds(SERVICES[name]["stop_grace_period"]) >= grace_s + 60
    drain_s = next(int(word.split("=")[1]) for word in SERVICES["vllm"]["command"] if word.startswith("--shutdown-timeout="))
    assert drain_s > grace_s
    assert seconds(SERVICES["vllm"]["stop_grace_period"]) > drain_s


def vllm_in_the_chart() -> list[Any]:
    """Return what the chart starts vLLM with."""
    return containers(rendered("values-fleet.yaml"))["vllm"]["args"]


@pytest.mark.parametrize("words", [lambda: SERVICES["vllm"]["command"], vllm_in_the_chart], ids=["compose", "chart"])
def test_vllm_is_started_as_the_server_would(words: Any) -> None:
    """It has the logits processor and the usage that the server gives its own, and fetches nothing by URL."""
    given = [part for word in words() for part in (word.split("=", 1) if word.startswith("--") else [word])]
    position = GENERATE.arguments.index("--logits-processors")

    assert given[given.index("--logits-processors") + 1] == GENERATE.arguments[position + 1]
    assert "--enable-prompt-tokens-details" in given
    assert given[given.index("--allowed-media-domains") + 1] == NO_MEDIA_DOMAIN


def test_one_gpu_has_room_for_the_embedding_model() -> None:
    """Beside a server on the same GPU, vLLM takes the share that the server's own would."""
    assert f"--gpu-memory-utilization={GENERATE.gpu_memory_share}" in SERVICES["vllm"]["command"]
