"""What the routes are given."""

from typing import Annotated

from fastapi import Depends, Request

from rag_server.answer import PassageUrl
from rag_server.errors import ForbiddenError, UnauthorizedError
from rag_server.services import Services
from rag_server.types import Access


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _passage_url(request: Request) -> PassageUrl:
    base = str(request.base_url).rstrip("/")
    return lambda passage_id: f"{base}/v1/passages/{passage_id}"


async def _access(request: Request) -> Access:
    services: Services = request.app.state.services
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    access = await services.access(secret.strip() if scheme.lower() == "bearer" else None)
    if access is None:
        raise UnauthorizedError("this server needs an API key: send it as `Authorization: Bearer KEY`")
    return access


async def _full_access(access: Annotated[Access, Depends(_access)]) -> Access:
    if access.principals is not None:
        raise ForbiddenError("this API key is limited to some documents; a whole vector store takes a key without principals")
    return access


# Every route that shows or changes anything takes it; for whom a request asks is never read from its body.
AccessDep = Annotated[Access, Depends(_access)]
FullAccessDep = Annotated[Access, Depends(_full_access)]
ServicesDep = Annotated[Services, Depends(_services)]
PassageUrlDep = Annotated[PassageUrl, Depends(_passage_url)]
