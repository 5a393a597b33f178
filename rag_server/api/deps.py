"""What the routes are given. All of it is async: FastAPI runs other functions in threads, of which there are few."""

from typing import Annotated

from fastapi import Depends, Request

from rag_server.answer import PassageUrl
from rag_server.errors import ForbiddenError
from rag_server.services import Services
from rag_server.types import Access, Caller


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _passage_url(request: Request) -> PassageUrl:
    base = str(request.base_url).rstrip("/")
    return lambda passage_id: f"{base}/v1/passages/{passage_id}"


async def _caller(request: Request) -> Caller:
    # The guard let the request in, and left it here.
    caller: Caller = request.state.caller
    return caller


async def _access(caller: Annotated[Caller, Depends(_caller)]) -> Access:
    return caller.access


async def _full_access(access: Annotated[Access, Depends(_access)]) -> Access:
    if access.principals is not None:
        raise ForbiddenError("this API key is limited to some documents; a whole vector store takes a key without principals")
    return access


# Every route that shows or changes anything takes it; for whom a request asks is never read from its body.
AccessDep = Annotated[Access, Depends(_access)]
CallerDep = Annotated[Caller, Depends(_caller)]
FullAccessDep = Annotated[Access, Depends(_full_access)]
ServicesDep = Annotated[Services, Depends(_services)]
PassageUrlDep = Annotated[PassageUrl, Depends(_passage_url)]
