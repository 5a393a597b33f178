"""Traces: a request's span below the client's own, its stages below that, by the conventions' names, and no text in any."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rag_server import factory
from rag_server.api.app import create_app
from rag_server.config import Settings, TracingSettings
from rag_server.observability import StageTimer
from rag_server.services import Services
from rag_server.tracing import OpenTelemetryTracer
from rag_server.usage import begin_record
from tests.conftest import running_server, served

StartEngine = Callable[..., AbstractContextManager[str]]
TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
QUESTION = "What do cats do secretly?"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced_server(
    settings: Settings, scripted_engine: StartEngine, spans: InMemorySpanExporter, index: Callable[..., None]
) -> Iterator[httpx.Client]:
    """A server with the collection `docs`, whose spans are kept in memory."""
    index("docs", {"cats.md": "Cats sleep all day."})
    with scripted_engine() as engine:
        services = Services(settings.model_copy(update={"engine": settings.engine.model_copy(update={"base_url": engine})}))
        services.tracer = OpenTelemetryTracer(SimpleSpanProcessor(spans))
        with (
            served(create_app(services)) as url,
            httpx.Client(base_url=url, timeout=30.0, trust_env=False) as client,
        ):
            yield client


def by_name(spans: InMemorySpanExporter, *, waiting_for: str = "") -> dict[str, ReadableSpan]:
    """Return the spans; the one of a request ends after its last byte."""
    while waiting_for and waiting_for not in {span.name for span in spans.get_finished_spans()}:
        time.sleep(0.01)
    return {span.name: span for span in spans.get_finished_spans()}


def ask(client: httpx.Client, **fields: object) -> httpx.Response:
    messages = [{"role": "user", "content": QUESTION}]
    headers = {"traceparent": TRACEPARENT, "authorization": "Bearer wrong"}
    body = {"model": "rag/docs", "messages": messages, **fields}
    return client.post("/v1/chat/completions?secret=1", json=body, headers=headers)


@pytest.mark.parametrize("stream", [False, True])
def test_request_and_its_stages_are_one_trace(traced_server: httpx.Client, spans: InMemorySpanExporter, stream: bool) -> None:
    """The client's trace goes on; every stage is below the request, named and counted as the conventions say."""
    answer = ask(traced_server, stream=stream, stream_options={"include_usage": True} if stream else None)
    found = by_name(spans, waiting_for="POST /v1/chat/completions")
    request, chat, retrieve = found["POST /v1/chat/completions"], found["chat scripted"], found["retrieve"]

    assert answer.status_code == 200
    assert f"{request.context.trace_id:032x}" == TRACE_ID
    assert f"{request.parent.span_id:016x}" == PARENT_ID
    assert request.kind.name == "SERVER"
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["http.route"] == "/v1/chat/completions"
    assert {"retrieve", "rerank", "prompt", "generate", "cite"} <= set(found)
    for name in ("retrieve", "rerank", "prompt", "generate", "cite", "chat scripted"):
        assert found[name].parent.span_id == request.context.span_id, name
        assert found[name].start_time >= request.start_time
        assert found[name].end_time <= request.end_time
    assert chat.attributes["gen_ai.operation.name"] == "chat"
    assert chat.attributes["gen_ai.request.model"] == "scripted"
    assert retrieve.attributes["openinference.span.kind"] == "RETRIEVER"
    assert found["rerank"].attributes["openinference.span.kind"] == "RERANKER"
    if not stream:
        usage = answer.json()["usage"]
        assert chat.attributes["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
        assert chat.attributes["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
        assert request.attributes["gen_ai.usage.output_tokens"] == usage["completion_tokens"]


def test_no_text_and_no_secret_is_in_a_span(traced_server: httpx.Client, spans: InMemorySpanExporter) -> None:
    """Neither question nor passage nor answer nor key nor query string, in names, attributes or events."""
    ask(traced_server)
    by_name(spans, waiting_for="POST /v1/chat/completions")
    said = "".join(span.to_json() for span in spans.get_finished_spans())

    for secret in ("secretly", "Cats sleep", "wrong", "secret=1"):
        assert secret not in said, secret


def test_failures_are_marked_without_their_messages(settings: Settings, spans: InMemorySpanExporter) -> None:
    """A stage that fails has the error's type only; one whose client went away is no failure."""
    record = begin_record()
    record.tracer = OpenTelemetryTracer(SimpleSpanProcessor(spans))
    record.span = record.tracer.request("POST", {})
    with contextlib.suppress(ValueError), StageTimer().stage("retrieve", kind="hybrid", text="x" * 500):
        raise ValueError("a secret question")
    with contextlib.suppress(GeneratorExit), StageTimer().stage("generate"):
        raise GeneratorExit
    found = by_name(spans)

    assert found["retrieve"].attributes["error.type"] == "ValueError"
    assert found["retrieve"].attributes["rag.kind"] == "hybrid"
    assert len(found["retrieve"].attributes["rag.text"]) == 200
    assert not found["retrieve"].status.is_ok
    assert "secret" not in found["retrieve"].to_json()
    assert found["generate"].status.is_unset


def test_nothing_is_traced_or_imported_unless_an_endpoint_is_named(settings: Settings) -> None:
    """By our setting or by either of the standard's variables."""
    assert factory.build_tracer(settings, {}) is None
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        tracer = factory.build_tracer(settings, {name: "http://127.0.0.1:9"})
        assert tracer is not None
        tracer.shutdown()


def test_traces_reach_a_collector_before_the_server_ends(settings: Settings, scripted_engine: StartEngine) -> None:
    """Over OTLP/HTTP at the endpoint of the setting; what was not sent yet is sent at the end."""
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        tracing = TracingSettings(endpoint=f"http://127.0.0.1:{collector.server_port}")
        with (
            scripted_engine() as engine,
            running_server(settings.model_copy(update={"tracing": tracing}), engine=engine) as client,
        ):
            client.get("/v1/models")
        collector.shutdown()
        thread.join()

    assert {path for path, _ in received} == {"/v1/traces"}
    names = []
    for _, body in received:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            assert "rag-server" in [attribute.value.string_value for attribute in resource.resource.attributes]
            names += [span.name for scope in resource.scope_spans for span in scope.spans]
    assert "GET /v1/models" in names
