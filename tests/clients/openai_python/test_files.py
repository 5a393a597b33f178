"""Files and uploads in parts with the openai package."""

import io

import pytest
from openai import AsyncOpenAI, NotFoundError, OpenAI

TEXT = "The pilot boat is called Skarv.\n"


def test_a_file_is_uploaded_read_listed_and_deleted(client: OpenAI) -> None:
    made = client.files.create(file=("pilot.txt", TEXT.encode()), purpose="assistants")

    assert (made.filename, made.bytes, made.purpose, made.object) == ("pilot.txt", len(TEXT), "assistants", "file")
    assert client.files.retrieve(made.id) == made
    assert client.files.wait_for_processing(made.id, max_wait_seconds=5).id == made.id
    assert client.files.content(made.id).read() == TEXT.encode()
    assert made.id in [file.id for file in client.files.list(purpose="assistants")]
    assert made.id not in [file.id for file in client.files.list(purpose="batch")]
    assert client.files.delete(made.id).deleted
    with pytest.raises(NotFoundError):
        client.files.retrieve(made.id)


def test_a_list_of_files_is_read_page_by_page(client: OpenAI) -> None:
    """The package asks for the next page with `after` until there is none; each file comes once, in the order asked for."""
    made = [client.files.create(file=(f"{number}.txt", b"x"), purpose="user_data").id for number in range(5)]

    listed = [file.id for file in client.files.list(purpose="user_data", limit=2, order="asc")]

    assert listed == made
    assert [file.id for file in client.files.list(purpose="user_data", limit=2, order="desc")] == made[::-1]
    for file_id in made:
        client.files.delete(file_id)


def test_a_file_of_several_kinds_of_argument(client: OpenAI, tmp_path) -> None:
    """The package takes a path and an open file too."""
    path = tmp_path / "by-path.md"
    path.write_text(TEXT)
    opened = io.BytesIO(TEXT.encode())
    opened.name = "opened.md"

    for file, name in ((path, "by-path.md"), (opened, "opened.md")):
        made = client.files.create(file=file, purpose="assistants")
        assert made.filename == name
        client.files.delete(made.id)


def test_an_upload_in_parts_becomes_one_file(client: OpenAI) -> None:
    content = TEXT.encode() * 50

    upload = client.uploads.upload_file_chunked(
        file=content, filename="parts.txt", bytes=len(content), mime_type="text/plain", purpose="assistants", part_size=400
    )

    assert upload.status == "completed"
    assert client.files.content(upload.file.id).read() == content
    client.files.delete(upload.file.id)


def test_an_upload_is_cancelled(client: OpenAI) -> None:
    upload = client.uploads.create(bytes=10, filename="never.txt", mime_type="text/plain", purpose="assistants")
    client.uploads.parts.create(upload.id, data=b"12345")

    assert client.uploads.cancel(upload.id).status == "cancelled"


async def test_the_asynchronous_client_uploads(async_client: AsyncOpenAI) -> None:
    made = await async_client.files.create(file=("async.txt", TEXT.encode()), purpose="assistants")

    assert (await async_client.files.content(made.id)).read() == TEXT.encode()
    assert (await async_client.files.delete(made.id)).deleted
