"""Items of a conversation as the messages of a chat request."""

import base64
from collections.abc import Awaitable, Callable, Sequence

from rag_server.errors import InvalidRequestError
from rag_server.protocols import Json

# Returns name and content of a file that was uploaded.
ReadFile = Callable[[str], Awaitable[tuple[str, bytes]]]

# Many chat templates know no others; `developer` is OpenAI's newer word.
_ROLES = {"developer": "system"}
_DETAILS = {"original": "high"}
# By their first bytes; what engines read.
_IMAGE_TYPES = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"), (b"RIFF", "image/webp"))


async def chat_messages(instructions: str | None, items: Sequence[Json], read_file: ReadFile) -> list[Json]:
    """Return the messages for the engine. Searches and thoughts of earlier answers are not among them.

    Raises:
        InvalidRequestError: An output belongs to no call, or a part is nothing that an engine can be given.
        NotFoundError: A file is not there.
    """
    messages: list[Json] = [] if not instructions else [{"role": "system", "content": instructions}]
    calls: set[str] = set()
    for item in items:
        kind = item["type"]
        if kind == "message":
            _add_message(messages, await _message(item, read_file))
        elif kind == "function_call":
            calls.add(item["call_id"])
            _add_call(messages, item)
        elif kind == "function_call_output":
            if item["call_id"] not in calls:
                raise InvalidRequestError(f"there is no function call {item['call_id']!r} before its output", "input")
            content = await _content(item["output"], read_file)
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": content})
    return messages


async def _message(item: Json, read_file: ReadFile) -> Json:
    content = await _content(item["content"], read_file)
    return {"role": _ROLES.get(item["role"], item["role"]), "content": content}


def _add_message(messages: list[Json], message: Json) -> None:
    """Add a message; what systems say at the beginning becomes one message, since many templates take no second one."""
    only = messages[0] if len(messages) == 1 and messages[0]["role"] == "system" else None
    if only is not None and message["role"] == "system" and isinstance(message["content"], str):
        messages[0] = {**only, "content": f"{only['content']}\n\n{message['content']}"}
    else:
        messages.append(message)


def _add_call(messages: list[Json], item: Json) -> None:
    """Add a call to what the assistant said just before, or as a message of its own."""
    call = {
        "id": item["call_id"],
        "type": "function",
        "function": {"name": item["name"], "arguments": item["arguments"]},
    }
    if messages and messages[-1]["role"] == "assistant":
        last = messages[-1]
        messages[-1] = {**last, "tool_calls": [*last.get("tool_calls", ()), call]}
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})


async def _content(content: str | list[Json], read_file: ReadFile) -> str | list[Json]:
    """Return parts as chat has them, or one text where there is nothing else: not every engine takes parts."""
    if isinstance(content, str):
        return content
    parts = [await _part(part, read_file) for part in content]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


async def _part(part: Json, read_file: ReadFile) -> Json:
    if part["type"] in ("input_text", "output_text"):
        return {"type": "text", "text": part["text"]}
    if part["type"] == "refusal":
        return {"type": "text", "text": part["refusal"]}
    return await (_image if part["type"] == "input_image" else _file)(part, read_file)


async def _image(part: Json, read_file: ReadFile) -> Json:
    url = part.get("image_url")
    if url is None:
        if part.get("file_id") is None:
            raise InvalidRequestError("an input_image needs an image_url or a file_id", "input")
        _, content = await read_file(part["file_id"])
        media_type = next((name for start, name in _IMAGE_TYPES if content.startswith(start)), None)
        if media_type is None:
            raise InvalidRequestError(f"the file {part['file_id']!r} is no PNG, JPEG, GIF or WebP image", "input")
        url = _data_url(media_type, content)
    detail = part.get("detail", "auto")
    return {"type": "image_url", "image_url": {"url": url, "detail": _DETAILS.get(detail, detail)}}


async def _file(part: Json, read_file: ReadFile) -> Json:
    name, data = part.get("filename"), part.get("file_data")
    if part.get("file_url") is not None:
        raise InvalidRequestError(
            "file_url is not fetched by this server; send file_data, or upload it and send file_id", "input"
        )
    if data is None:
        if part.get("file_id") is None:
            raise InvalidRequestError("an input_file needs file_data or a file_id", "input")
        found, content = await read_file(part["file_id"])
        name, data = name or found, _data_url("application/octet-stream", content)
    return {"type": "file", "file": {"file_data": data, **({} if name is None else {"filename": name})}}


def _data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
