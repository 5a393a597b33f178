"""Liveness, readiness, metrics."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from rag_server import __version__
from rag_server.api.deps import ServicesDep
from rag_server.engines.probe import engine_names
from rag_server.protocols import Json

router = APIRouter()


@router.get("/health")
async def health() -> Json:
    """Say that the server answers."""
    return {"status": "ok", "version": __version__}


@router.get("/ready")
async def ready(services: ServicesDep) -> Response:
    """Say whether questions are answered; if not, 503 with what is missing. Of several engines each is named."""
    if services.leaving:
        return JSONResponse({"status": "shutting_down", "missing": {}}, status_code=503)
    missing, faults = await services.missing(), await services.engine_faults()
    body: Json = {"status": "starting" if missing else "ready", "missing": missing}
    if len(faults) > 1:
        body["engines"] = dict(zip(engine_names(faults), (fault or "ready" for fault in faults), strict=True))
    return JSONResponse(body, status_code=503 if missing else 200)


@router.get("/metrics")
async def metrics() -> Response:
    """Give the metrics in Prometheus' text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
