"""Liveness, readiness, metrics."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from rag_server import __version__
from rag_server.api.deps import ServicesDep
from rag_server.protocols import Json

router = APIRouter()


@router.get("/health")
async def health() -> Json:
    """Say that the server answers."""
    return {"status": "ok", "version": __version__}


@router.get("/ready")
async def ready(services: ServicesDep) -> Response:
    """Say whether questions are answered; if not, 503 with what is missing."""
    if services.shutting_down:
        return JSONResponse({"status": "shutting_down", "missing": {}}, status_code=503)
    missing = await services.missing()
    status = "starting" if missing else "ready"
    return JSONResponse({"status": status, "missing": missing}, status_code=503 if missing else 200)


@router.get("/metrics")
async def metrics() -> Response:
    """Give the metrics in Prometheus' text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
