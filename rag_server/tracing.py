"""Traces by OpenTelemetry: a span for each request and one for each of its stages, sent over OTLP/HTTP."""

import os
from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rag_server import __version__
from rag_server.spans import Attribute, Span

SERVICE = "rag-server"
# OpenTelemetry's conventions for generative AI, and OpenInference's kinds of spans for what they leave out.
_CALLS: dict[str, dict[str, Attribute]] = {
    "chat": {"gen_ai.operation.name": "chat", "openinference.span.kind": "LLM"},
    "text_completion": {"gen_ai.operation.name": "text_completion", "openinference.span.kind": "LLM"},
    "embeddings": {"gen_ai.operation.name": "embeddings", "openinference.span.kind": "EMBEDDING"},
}
_STAGES: dict[str, dict[str, Attribute]] = {
    "retrieve": {"gen_ai.operation.name": "retrieval", "openinference.span.kind": "RETRIEVER"},
    "rerank": {"openinference.span.kind": "RERANKER"},
}
_OTHER: dict[str, Attribute] = {"openinference.span.kind": "CHAIN"}
_NAMES = {
    "model": "gen_ai.request.model",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
}
# What is longer is text, which has no business here.
MAX_VALUE_CHARACTERS = 200


class OpenTelemetryTracer:
    """Makes spans with the SDK."""

    def __init__(self, processor: SpanProcessor) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME", SERVICE)
        resource = Resource.create({"service.name": name, "service.version": __version__})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(SERVICE, __version__)
        self._propagator = TraceContextTextMapPropagator()

    def request(self, method: str, headers: Mapping[str, str]) -> Span:
        """Begin the span of a request, below the client's own where `traceparent` names one."""
        context = self._propagator.extract(headers)
        span = self._tracer.start_span(method, context=context, kind=SpanKind.SERVER, attributes={_NAMES["method"]: method})
        return _Span(span)

    def stage(self, parent: Span, name: str, attributes: Mapping[str, Attribute]) -> Span:
        """Begin the span of a stage of that request."""
        # Not made the current one: a stage of a stream ends in another context than it began in.
        context = trace.set_span_in_context(parent.inner) if isinstance(parent, _Span) else None
        shown = f"{name} {attributes['model']}" if name in _CALLS else name
        span = _Span(self._tracer.start_span(shown, context=context, attributes=_CALLS.get(name) or _STAGES.get(name, _OTHER)))
        span.set(**attributes)
        return span

    def shutdown(self) -> None:
        """Send what was not sent yet."""
        self._provider.shutdown()


class _Span:
    """A span of the SDK under the names of its conventions; what has none there is this server's own."""

    def __init__(self, inner: trace.Span) -> None:
        self.inner = inner

    def set(self, **attributes: Attribute) -> None:
        for name, value in attributes.items():
            known = _NAMES.get(name, f"rag.{name}")
            self.inner.set_attribute(known, value[:MAX_VALUE_CHARACTERS] if isinstance(value, str) else value)
        if "route" in attributes and "method" in attributes:
            self.inner.update_name(f"{attributes['method']} {attributes['route']}")
        if (status := attributes.get("status")) is not None and int(status) >= 500:
            self.inner.set_status(StatusCode.ERROR)

    def fail(self, error: BaseException) -> None:
        # The message may quote a question or a document.
        self.inner.set_attribute("error.type", type(error).__name__)
        # Others say that the client went away, which is no fault.
        if isinstance(error, Exception):
            self.inner.set_status(StatusCode.ERROR)

    def end(self) -> None:
        self.inner.end()


def build_tracer(endpoint: str | None) -> OpenTelemetryTracer:
    """Return a tracer that sends to the collector at `endpoint`, None for where the standard's environment variables say."""
    url = None if endpoint is None else f"{endpoint.rstrip('/')}/v1/traces"
    return OpenTelemetryTracer(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
