"""What engines and searches wrote, as clients bring it back: read as OpenAI's types, so that what is kept can be shown."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Echoed(BaseModel):
    """A part of a conversation that comes back."""

    # Clients send back what they were given, with fields of later versions.
    model_config = ConfigDict(extra="ignore", strict=True)


class FileCitation(Echoed):
    """A file that was cited, at a place in the text."""

    type: Literal["file_citation"]
    file_id: str
    filename: str
    index: int


class UrlCitation(Echoed):
    """An address that a stretch of the text cites."""

    type: Literal["url_citation"]
    url: str
    title: str
    start_index: int
    end_index: int


class ContainerFileCitation(Echoed):
    """A file of a container that a stretch of the text cites."""

    type: Literal["container_file_citation"]
    container_id: str
    file_id: str
    filename: str
    start_index: int
    end_index: int


class FilePath(Echoed):
    """A file that was made, at a place in the text."""

    type: Literal["file_path"]
    file_id: str
    index: int


Annotation = Annotated[FileCitation | UrlCitation | ContainerFileCitation | FilePath, Field(discriminator="type")]


class TopLogprob(Echoed):
    """A token that could have stood at a place."""

    token: str
    bytes: list[int]
    logprob: float


class Logprob(TopLogprob):
    """The token that stood there, and the likeliest ones."""

    top_logprobs: list[TopLogprob] = Field(max_length=20)


class SearchResult(Echoed):
    """A passage that a file search found."""

    file_id: str | None = None
    filename: str | None = None
    text: str | None = None
    score: float | None = None
    attributes: dict[str, str | float | bool] | None = None
