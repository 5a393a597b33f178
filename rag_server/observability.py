"""Structured logs on stderr, Prometheus metrics, and a timer per stage."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from prometheus_client import Counter, Histogram

from rag_server.spans import Attribute, Span
from rag_server.types import RANKING_COUNTERS, RankingReport
from rag_server.usage import traced

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

STAGE_SECONDS = Histogram("rag_stage_seconds", "Time spent in a stage of a query.", ["stage"], buckets=BUCKETS_S)
REQUESTS = Counter("rag_requests_total", "HTTP requests.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "rag_request_seconds", "Time from a request to the end of its answer.", ["route"], buckets=BUCKETS_S
)
REFUSALS = Counter("rag_refusals_total", "Requests refused: no key, not allowed, too large, too many, no room.", ["status"])
PASSAGES_DROPPED = Counter("rag_prompt_passages_dropped_total", "Passages left out because the prompt was full.")
CITATIONS = Counter("rag_citations_total", "Citations sent.", ["verified"])
RANKINGS = Counter("rag_rerank_total", "Rankings.", ["kind", "outcome"])
RANKING_COUNTS = Counter(
    "rag_rerank_counts_total",
    "Calls, tokens, well-formed and repaired outputs, and passages missing or unread, of rankings.",
    ["kind", "what"],
)
CACHE_LOOKUPS = Counter("rag_cache_lookups_total", "Cache lookups, by what was looked for.", ["what", "outcome"])
CHUNKS_INDEXED = Counter("rag_chunks_indexed_total", "Chunks stored by this process.")


class StageTimer:
    """Measures the stages of one request, in milliseconds."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, **attributes: Attribute) -> Iterator[Span]:
        """Time the block as stage `name`, also when it fails; give its span, for what is known of it only at its end.

        Of the attributes, `model`, `prompt_tokens` and `output_tokens` go by their names in OpenTelemetry's conventions.
        """
        started = time.perf_counter()
        try:
            with traced(name, **attributes) as span:
                yield span
        finally:
            elapsed_s = time.perf_counter() - started
            self.timings_ms[name] = round(elapsed_s * 1000, 3)
            STAGE_SECONDS.labels(name).observe(elapsed_s)


def count_ranking(kind: str, report: RankingReport) -> None:
    """Add a ranking to the metrics."""
    RANKINGS.labels(kind, "ranked" if report.fallback is None else "fallback").inc()
    for name in RANKING_COUNTERS:
        RANKING_COUNTS.labels(kind, name).inc(getattr(report, name))


class _OfLibraries(logging.Handler):
    """Gives what libraries log the form of our own lines."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


def configure_logging(*, level: str = "info") -> None:
    """Send logs to stderr: coloured lines on a terminal, one JSON object per line elsewhere."""
    # Without the values of local variables, which may be documents and keys.
    lines = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer = lines if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *([] if renderer is lines else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # Looked up at each line, since whoever embeds this may replace the stream.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Also so that no library puts a handler there that prints each address that is asked, or the values in a traceback.
    logging.basicConfig(level=logging.WARNING, handlers=[_OfLibraries()], force=True)
