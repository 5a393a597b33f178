"""What doctor tells of the engine's prompt cache."""

import json

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from rag_server.config import Settings
from rag_server.services import Address, write_address
from tests.conftest import served
from tests.rag_server.commands.conftest import CommandLine

ENGINE = (
    "vllm:num_requests_running 0.0\nvllm:num_requests_waiting 0.0\n"
    "vllm:prefix_cache_queries_total 1000.0\nvllm:prefix_cache_hits_total 625.0\n"
)
SERVER = '# TYPE rag_prompt_cache_tokens counter\nrag_prompt_cache_tokens_total{outcome="%s"} %s\n'


def telling(metrics: str) -> Starlette:
    """An engine, or a server, with these metrics."""

    async def models(_: Request) -> Response:
        return JSONResponse({"data": [{"id": "m"}]})

    async def told(_: Request) -> Response:
        return PlainTextResponse(metrics)

    return Starlette(routes=[Route("/v1/models", models), Route("/metrics", told)])


def prompt_cache(command_line: CommandLine) -> str:
    _, out, _ = command_line("doctor", "--json")
    return {finding["name"]: finding["detail"] for finding in json.loads(out)["findings"]}["prompt cache"]


def test_doctor_tells_what_the_engine_and_the_server_count(
    command_line: CommandLine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """625 of 1,000 tokens of the engine, for whomever, and 30 of 40 of the server that runs here."""
    monkeypatch.setenv("RAG_DATA_DIR", str(settings.data_dir))
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    counted = SERVER % ("hit", 30.0) + (SERVER % ("miss", 10.0)).partition("\n")[2]
    with served(telling(ENGINE)) as engine, served(telling(counted)) as server:
        monkeypatch.setenv("RAG_ENGINE__BASE_URL", f"{engine}/v1")
        alone = prompt_cache(command_line)
        write_address(settings.data_dir, Address(server, "secret"))
        both = prompt_cache(command_line)

    of_engine = "already computed: 62.5% of all prompt tokens of the engine"
    assert alone == of_engine
    assert both == f"{of_engine}, 75.0% of the prompt tokens of this data directory's server"


@pytest.mark.parametrize("metrics", ["", "rag_prompt_cache_tokens_total{", SERVER % ("hit", 0.0)])
def test_doctor_says_that_nothing_is_counted(
    command_line: CommandLine, settings: Settings, monkeypatch: pytest.MonkeyPatch, metrics: str
) -> None:
    """Where the engine tells nothing, and the server has counted nothing, is another program, or gone."""
    monkeypatch.setenv("RAG_DATA_DIR", str(settings.data_dir))
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with served(telling(metrics)) as url:
        monkeypatch.setenv("RAG_ENGINE__BASE_URL", f"{url}/v1")
        write_address(settings.data_dir, Address(url, "secret"))
        told = prompt_cache(command_line)
        write_address(settings.data_dir, Address("http://127.0.0.1:9", "secret"))
        gone = prompt_cache(command_line)

    assert told == gone == "nothing counted yet"
