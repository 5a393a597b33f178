"""A bare pass-through proxy: the least that can stand between a client and an engine, to compare the server with.

python -m eval.bench.proxy --port 9000 --engine http://127.0.0.1:8001
"""

import argparse
import contextlib
from collections.abc import AsyncIterator

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route


def create_app(engine_url: str) -> Starlette:
    """Return an application that hands requests on as they are, and answers in the parts in which they come."""
    client = httpx.AsyncClient(timeout=600.0, limits=httpx.Limits(max_connections=None), trust_env=False)

    async def forward(request: Request) -> Response:
        headers = {"content-type": request.headers["content-type"]}
        sent = client.build_request("POST", f"{engine_url}{request.url.path}", content=await request.body(), headers=headers)
        answer = await client.send(sent, stream=True)
        return StreamingResponse(_parts(answer), answer.status_code, {"content-type": answer.headers["content-type"]})

    async def health(_: Request) -> Response:
        return Response()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    routes = [Route("/health", health), Route("/{path:path}", forward, methods=["POST"])]
    return Starlette(routes=routes, lifespan=lifespan)


async def _parts(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in answer.aiter_raw():
            yield part
    finally:
        await answer.aclose()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--engine", required=True, help="where requests go, such as http://127.0.0.1:8001")
    arguments = parser.parse_args()
    uvicorn.run(create_app(arguments.engine), host="127.0.0.1", port=arguments.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
