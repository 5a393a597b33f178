"""Requests to every endpoint, by group; each function leaves the answers with the driver."""

import json
from collections.abc import Callable

from eval.conformance.driver import Driver
from rag_server.protocols import Json

MODEL = "scripted"
TEXT = "The pump is oiled every Monday. The blue valve opens to the left.\n"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}
BATCH = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
CALL = 'call weather with {"town": "Rome"}'


def _said(text: str) -> list[Json]:
    return [{"role": "user", "content": text}]


def indexed_store(driver: Driver, name: str) -> tuple[str, str]:
    """Make a vector store of that name with one indexed file; return both ids."""
    upload = {"file": ("pump.txt", TEXT.encode(), "text/plain")}
    file = driver.made("/v1/files", files=upload, data={"purpose": "assistants"})
    store = driver.made("/v1/vector_stores", {"name": name, "metadata": {"room": "4"}})
    driver.send("POST", f"/v1/vector_stores/{store}/files", {"file_id": file, "attributes": {"year": 2024, "kind": "manual"}})
    driver.wait_while(f"/v1/vector_stores/{store}/files/{file}")
    return store, file


def models(driver: Driver) -> None:
    """List, get, and try to delete."""
    driver.send("GET", "/v1/models")
    driver.send("GET", f"/v1/models/{MODEL}")
    driver.send("GET", "/v1/models/missing")
    driver.send("DELETE", f"/v1/models/{MODEL}")


def chat(driver: Driver) -> None:
    """Answers with and without retrieval, streams, tools, choices, probabilities, and stored completions."""
    path = "/v1/chat/completions"
    store, _ = indexed_store(driver, "manuals")
    plain = {"model": MODEL, "messages": _said("Hello")}
    rag = {"model": "rag/manuals", "messages": _said("When is the pump oiled?")}
    driver.send("POST", path, plain)
    driver.send("POST", path, {**plain, "n": 2, "logprobs": True, "top_logprobs": 2, "max_tokens": 3})
    driver.send("POST", path, {**plain, "stream": True, "stream_options": {"include_usage": True}, "logprobs": True})
    driver.send("POST", path, {"model": MODEL, "messages": _said(CALL), "tools": [WEATHER]})
    driver.send("POST", path, {"model": MODEL, "messages": _said(CALL), "tools": [WEATHER], "stream": True})
    driver.send("POST", path, rag)
    driver.send("POST", path, {**rag, "stream": True, "stream_options": {"include_usage": True}})
    driver.send("POST", path, {**plain, "rag": {"vector_store_ids": [store]}})
    driver.send("POST", path, {"model": MODEL, "messages": []})
    driver.send("POST", path, {**plain, "model": "missing"})
    stored_chat(driver)


def stored_chat(driver: Driver) -> None:
    """Store completions, and list, get, change, read and delete them."""
    path = "/v1/chat/completions"
    request = {"model": MODEL, "messages": _said("Hello"), "store": True, "metadata": {"topic": "greeting"}}
    one = driver.made(path, request)
    driver.made(path, {**request, "model": "rag/manuals"})
    driver.send("GET", path, params={"limit": 1, "order": "asc", "metadata[topic]": "greeting"})
    driver.send("GET", path, params={"after": one, "model": MODEL})
    driver.send("GET", f"{path}/{one}")
    driver.send("POST", f"{path}/{one}", {"metadata": {"topic": "other"}})
    driver.send("GET", f"{path}/{one}/messages")
    driver.send("DELETE", f"{path}/{one}")
    driver.send("GET", f"{path}/{one}")


def completions(driver: Driver) -> None:
    """Texts that go on."""
    path, body = "/v1/completions", {"model": MODEL, "prompt": "Once upon a time"}
    driver.send("POST", path, body)
    driver.send("POST", path, {**body, "n": 2, "logprobs": 2, "echo": True, "max_tokens": 4})
    driver.send("POST", path, {**body, "prompt": ["One", "Two"]})
    driver.send("POST", path, {**body, "stream": True, "stream_options": {"include_usage": True}})
    driver.send("POST", path, {"model": MODEL})


def embeddings(driver: Driver) -> None:
    """Vectors as numbers and as base64."""
    models = driver.send("GET", "/v1/models").get("data", [])
    known = [model["id"] for model in models if not model["id"].startswith("rag/") and model["id"] != MODEL]
    for model in [*known[:1], MODEL]:
        driver.send("POST", "/v1/embeddings", {"model": model, "input": "a text"})
        driver.send("POST", "/v1/embeddings", {"model": model, "input": ["one", "two"], "encoding_format": "base64"})
        driver.send("POST", "/v1/embeddings", {"model": model, "input": "a text", "encoding_format": "float", "user": "me"})
    driver.send("POST", "/v1/embeddings", {"model": MODEL, "input": []})


def files(driver: Driver) -> None:
    """Upload, list, get, read, delete."""
    upload = {"file": ("a.txt", TEXT.encode(), "text/plain")}
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    one = driver.made("/v1/files", files=upload, data={"purpose": "user_data", **expiry})
    driver.made("/v1/files", files=upload, data={"purpose": "user_data"})
    driver.send("GET", "/v1/files", params={"limit": 1, "order": "asc"})
    driver.send("GET", "/v1/files", params={"after": one, "purpose": "user_data", "order": "asc"})
    driver.send("GET", f"/v1/files/{one}")
    driver.send("GET", f"/v1/files/{one}/content")
    driver.send("DELETE", f"/v1/files/{one}")
    driver.send("GET", f"/v1/files/{one}")
    driver.send("POST", "/v1/files", files=upload, data={"purpose": "nothing"})


def uploads(driver: Driver) -> None:
    """Send a file in two parts, and give another one up."""
    halves = [TEXT[:20].encode(), TEXT[20:].encode()]
    body = {"filename": "a.txt", "purpose": "assistants", "bytes": len(TEXT.encode()), "mime_type": "text/plain"}
    one = driver.made("/v1/uploads", {**body, "expires_after": {"anchor": "created_at", "seconds": 3600}})
    parts = [driver.made(f"/v1/uploads/{one}/parts", files={"data": ("part", half)}) for half in halves]
    driver.send("POST", f"/v1/uploads/{one}/complete", {"part_ids": parts})
    other = driver.made("/v1/uploads", body)
    driver.send("POST", f"/v1/uploads/{other}/cancel")
    driver.send("POST", f"/v1/uploads/{other}/complete", {"part_ids": parts})


def batches(driver: Driver) -> None:
    """Requests in a file: answered, given up over their input, cancelled, listed."""
    path = "/v1/batches"
    lines = [chat_line("one", "Hello"), chat_line("two", "Goodbye")]
    request = {**BATCH, "metadata": {"topic": "greeting"}}
    file = batch_file(driver, lines)
    one = driver.made(
        path, {**request, "input_file_id": file, "output_expires_after": {"anchor": "created_at", "seconds": 3600}}
    )
    driver.send("GET", path, params={"limit": 1})
    _wait_for_end(driver, f"{path}/{one}")
    ended = driver.send("GET", f"{path}/{one}")
    driver.send("GET", f"/v1/files/{ended.get('output_file_id')}/content")
    driver.send("POST", f"{path}/{one}/cancel")
    faulty = driver.made(path, {**request, "input_file_id": batch_file(driver, [*lines, lines[0]])})
    _wait_for_end(driver, f"{path}/{faulty}")
    driver.send("GET", f"{path}/{faulty}")
    other = driver.made(path, {**request, "input_file_id": file})
    driver.send("POST", f"{path}/{other}/cancel")
    driver.send("GET", path, params={"after": other})
    driver.send("GET", f"{path}/missing")
    driver.send("POST", path, {**request, "input_file_id": "missing"})
    driver.send("POST", path, {**request, "input_file_id": file, "endpoint": "/v1/moderations"})


def batch_file(driver: Driver, lines: list[Json]) -> str:
    """Upload requests for a batch; return the file's id."""
    content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    return driver.made("/v1/files", files={"file": ("requests.jsonl", content)}, data={"purpose": "batch"})


def chat_line(custom_id: str, text: str) -> Json:
    """Return a line of a batch of chat requests."""
    body = {"model": MODEL, "messages": _said(text)}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def _wait_for_end(driver: Driver, batch: str) -> None:
    for status in ("validating", "in_progress", "finalizing"):
        driver.wait_while(batch, status)


def vector_stores(driver: Driver) -> None:
    """Stores, their files, batches of files, and searches."""
    store, file = indexed_store(driver, "guides")
    one = f"/v1/vector_stores/{store}"
    driver.send("GET", "/v1/vector_stores", params={"limit": 1})
    driver.send("GET", one)
    driver.send("POST", one, {"name": "handbooks", "expires_after": {"anchor": "last_active_at", "days": 7}})
    year = {"type": "eq", "key": "year", "value": 2024}
    both = {"type": "and", "filters": [year, {"type": "in", "key": "kind", "value": ["manual", "note"]}]}
    driver.send("POST", f"{one}/search", {"query": "When is the pump oiled?"})
    ranking = {"ranker": "auto", "score_threshold": 0.1}
    driver.send(
        "POST",
        f"{one}/search",
        {"query": ["pump", "valve"], "filters": both, "max_num_results": 3, "ranking_options": ranking, "rewrite_query": True},
    )
    _files_of_store(driver, one, file)
    _file_batches(driver, one)
    driver.send("DELETE", one)
    driver.send("GET", one)


def _files_of_store(driver: Driver, store: str, file: str) -> None:
    driver.send("GET", f"{store}/files", params={"filter": "completed", "order": "asc", "limit": 1})
    driver.send("GET", f"{store}/files/{file}")
    driver.send("POST", f"{store}/files/{file}", {"attributes": {"year": 2025}})
    driver.send("GET", f"{store}/files/{file}/content")
    driver.send("DELETE", f"{store}/files/{file}")
    driver.send("GET", f"{store}/files/{file}")
    static = {"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 50}}
    driver.send("POST", f"{store}/files", {"file_id": file, "chunking_strategy": static})
    bad = driver.made("/v1/files", files={"file": ("broken.pdf", b"%PDF-1.7 broken")}, data={"purpose": "assistants"})
    driver.send("POST", f"{store}/files", {"file_id": bad})
    driver.wait_while(f"{store}/files/{bad}")
    driver.send("GET", f"{store}/files/{bad}")


def _file_batches(driver: Driver, store: str) -> None:
    upload = {"file": ("b.txt", TEXT.encode(), "text/plain")}
    ids = [driver.made("/v1/files", files=upload, data={"purpose": "assistants"}) for _ in range(3)]
    batch = driver.made(f"{store}/file_batches", {"file_ids": ids[:2], "attributes": {"year": 2024}})
    driver.wait_while(f"{store}/file_batches/{batch}")
    driver.send("GET", f"{store}/file_batches/{batch}")
    driver.send("GET", f"{store}/file_batches/{batch}/files", params={"limit": 1, "filter": "completed"})
    other = driver.made(f"{store}/file_batches", {"files": [{"file_id": ids[2], "attributes": {"year": 1}}]})
    driver.send("POST", f"{store}/file_batches/{other}/cancel")


GROUPS: dict[str, Callable[[Driver], None]] = {
    "Models": models,
    "Chat": chat,
    "Completions": completions,
    "Embeddings": embeddings,
    "Files": files,
    "Uploads": uploads,
    "Vector stores": vector_stores,
    "Batch": batches,
}
