"""Fuzzes a server of its own by its own description, with schemathesis."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.conformance.driver import Driver
from eval.conformance.exchanges import BATCH, MODEL, batch_file, chat_line, indexed_store
from eval.conformance.server import CheckedServer
from rag_server.protocols import Json

ROOT = Path(__file__).parents[2]
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
REQUEST_TIMEOUT_S = 30
# What a run does not look at, and why.
EXCLUDED = (
    "bodies of event streams: their status and media type are checked here, their events by `make conformance`",
    "whether requests that fit the schema are taken: a 400 is no failure here",
    "GET /openapi.json: schemathesis leaves out the address that it reads the description from",
    "the phase of schemathesis that sends the description's examples: it has none",
)


@dataclass(frozen=True, slots=True)
class FuzzResult:
    """What a run found: `failures` and `errors` in words, with the operations."""

    num_cases: int
    num_operations: int
    failures: tuple[str, ...]


def fuzz(
    server: CheckedServer,
    seeds: Json,
    report: Path,
    *,
    phases: Sequence[str],
    max_examples: int,
    seed: int,
    seconds: int | None = None,
) -> FuzzResult:
    """Fuzz, print what schemathesis says, and leave its report at that path.

    `seeds` are the names of what exists, by the names that parameters have. Without `seconds` each operation gets at most
    `max_examples` cases; with it the run goes on for so long.

    Raises:
        RuntimeError: schemathesis did not run.
    """
    report.unlink(missing_ok=True)
    with server.client() as client:
        # Made once, which on a busy machine takes longer than schemathesis waits.
        client.get("/openapi.json").raise_for_status()
    command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{server.url}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {server.key}", "--checks", ",".join(CHECKS)]
    command += ["--phases", ",".join(phases), "--max-examples", str(max_examples), "--seed", str(seed)]
    command += ["--request-timeout", str(REQUEST_TIMEOUT_S), "--continue-on-failure"]
    command += [] if seconds is None else ["--max-time", str(seconds)]
    # Large schemas take long to draw from; a slow draw is no failure of the server.
    command += ["--suppress-health-check", "all", "--report", "json", "--report-json-path", str(report.resolve())]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    hooks = {"SCHEMATHESIS_HOOKS": "eval.conformance.fuzz_hooks", "FUZZ_SEEDS": json.dumps(seeds), "PYTHONPATH": path}
    # It leaves files where it runs.
    subprocess.run(command, env={**os.environ, **hooks}, cwd=report.parent, check=False)
    found = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
    if not found.get("operations"):
        raise RuntimeError("schemathesis could not begin; what it printed says why")
    return _result(found)


def make_seeds(driver: Driver) -> Json:
    """Make one object of each kind; return their ids by the names that parameters have."""
    store, file = indexed_store(driver, "fuzzed")
    messages = [{"role": "user", "content": "Hello"}]
    requests = batch_file(driver, [chat_line("one", "Hello")])
    found = driver.send("POST", f"/v1/vector_stores/{store}/search", {"query": "pump"})["data"]
    return {
        "vector_store_id": store,
        "file_id": file,
        "input_file_id": requests,
        "request_batch_id": driver.made("/v1/batches", {**BATCH, "input_file_id": requests}),
        "batch_id": driver.made(f"/v1/vector_stores/{store}/file_batches", {"file_ids": [file]}),
        "passage_id": found[0]["rag"]["passage_id"],
        "model": MODEL,
        "embedding_model": driver.send("GET", "/v1/models")["data"][-1]["id"],
        "completion_id": driver.made("/v1/chat/completions", {"model": MODEL, "messages": messages, "store": True}),
        "response_id": driver.made("/v1/responses", {"model": MODEL, "input": "Hello"}),
        "conversation_id": driver.made("/v1/conversations", {}),
    }


def _result(report: Json) -> FuzzResult:
    failures = [
        f"{failure['title']} ({failure['count']} times): {', '.join(failure['operations'])}" for failure in report["failures"]
    ]
    failures += [f"error: {json.dumps(error)}" for error in report["errors"]]
    return FuzzResult(report["test_cases"]["generated"], report["operations"]["tested"], tuple(failures))
