"""What the routes are given."""

from typing import Annotated

from fastapi import Depends, Request

from rag_server.answer import PassageUrl
from rag_server.services import Services


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _passage_url(request: Request) -> PassageUrl:
    base = str(request.base_url).rstrip("/")
    return lambda passage_id: f"{base}/v1/passages/{passage_id}"


ServicesDep = Annotated[Services, Depends(_services)]
PassageUrlDep = Annotated[PassageUrl, Depends(_passage_url)]
