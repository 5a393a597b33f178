"""GET /v1/rag: what this server does with a question where a request says nothing, what it can, and what the key may."""

from dataclasses import asdict
from typing import get_args

from fastapi import APIRouter

from rag_server import __version__, types
from rag_server.api.deps import CallerDep, ServicesDep
from rag_server.api.schemas_stores import MAX_FILE_BYTES
from rag_server.config import ReorderKind, RetrieveKind
from rag_server.factory import reranker_kinds
from rag_server.protocols import Json
from rag_server.store.upload_sessions import MAX_PART_BYTES

router = APIRouter()

SCOPES: tuple[types.Scope, ...] = get_args(types.Scope)
# Of the options, what no request can say.
NOT_SHOWN = ("select",)


@router.get("/v1/rag")
async def get_server(services: ServicesDep, caller: CallerDep) -> Json:
    """Tell the defaults, the choices and the limits of this server, and the scopes of the key."""
    scopes = sorted(SCOPES if caller.scopes is None else caller.scopes)
    defaults = asdict(services.default_options)
    return {
        "object": "rag.server",
        "version": __version__,
        "key": {"id": caller.key_id, "name": caller.key_name, "scopes": scopes},
        "defaults": {name: value for name, value in defaults.items() if name not in NOT_SHOWN},
        "retrieve": sorted(get_args(RetrieveKind)),
        "rerank": reranker_kinds(services.settings),
        "reorder": list(get_args(ReorderKind)),
        "limits": {"max_file_bytes": MAX_FILE_BYTES, "max_part_bytes": MAX_PART_BYTES},
    }
