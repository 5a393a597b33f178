"""What a request wants shown that is left out otherwise, in its address."""

from typing import Annotated

from fastapi import Depends, Query

from rag_server.api.responses.bodies import Include


async def _include(
    include: Annotated[list[Include] | None, Query()] = None,
    bracketed: Annotated[list[Include] | None, Query(alias="include[]", include_in_schema=False)] = None,
) -> list[Include]:
    # OpenAI's description says `include=a&include=b`, its clients send `include[]=a`.
    return [*(include or ()), *(bracketed or ())]


IncludeDep = Annotated[list[Include], Depends(_include)]
