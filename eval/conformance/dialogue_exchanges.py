"""Requests to the endpoints of responses and conversations."""

import time

from eval.conformance.driver import Driver
from eval.conformance.exchanges import CALL, MODEL, indexed_store
from rag_server.protocols import Json

TOOL = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a town.",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    "strict": False,
}
BACKGROUND_TIMEOUT_S = 30.0


def responses(driver: Driver) -> None:
    """Answers, streams, tools, file search, turns, background, and stored responses."""
    path = "/v1/responses"
    store, _ = indexed_store(driver, "leaflets")
    search: Json = {"model": MODEL, "input": "When is the pump oiled?"}
    search["tools"] = [{"type": "file_search", "vector_store_ids": [store], "max_num_results": 3}]
    tool = {"model": MODEL, "input": CALL, "tools": [TOOL]}
    message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
    one = driver.made(path, {"model": MODEL, "input": "Hello", "instructions": "Be brief.", "metadata": {"topic": "x"}})
    driver.send("POST", path, {"model": MODEL, "input": [message], "stream": True, "temperature": 0.5})
    driver.send("POST", path, search)
    driver.send("POST", path, {**search, "include": ["file_search_call.results"], "stream": True})
    driver.send("POST", path, tool)
    driver.send("POST", path, {**tool, "stream": True})
    driver.send("POST", path, {"model": MODEL, "input": "And then?", "previous_response_id": one})
    driver.send("POST", path, {"model": "rag/leaflets", "input": "When is the pump oiled?"})
    driver.send("POST", path, {"model": MODEL, "input": "Hi", "store": False, "max_output_tokens": 16})
    driver.send("POST", path, {"model": MODEL, "input": "Hi", "text": {"format": {"type": "json_object"}}})
    driver.send("POST", path, {"model": MODEL, "input": "Hi", "tools": [{"type": "web_search"}]})
    driver.send("GET", f"{path}/{one}")
    driver.send("GET", f"{path}/{one}/input_items", params={"limit": 1, "order": "asc"})
    background(driver)
    driver.send("DELETE", f"{path}/{one}")
    driver.send("GET", f"{path}/{one}")


def background(driver: Driver) -> None:
    """Let one response be made in the background, and stop another one."""
    path = "/v1/responses"
    one = driver.made(path, {"model": MODEL, "input": "Hello", "background": True})
    until = time.monotonic() + BACKGROUND_TIMEOUT_S
    while driver.send("GET", f"{path}/{one}").get("status") in ("queued", "in_progress") and time.monotonic() < until:
        time.sleep(0.1)
    other = driver.made(path, {"model": MODEL, "input": "Hello again", "background": True})
    driver.send("POST", f"{path}/{other}/cancel")
    streamed = driver.send("POST", path, {"model": MODEL, "input": "Hello", "background": True, "stream": True})
    driver.send("GET", f"{path}/{streamed.get('id', one)}", params={"stream": "true"})


def conversations(driver: Driver) -> None:
    """Conversations, their items, and a response in one."""
    path = "/v1/conversations"
    message = {"type": "message", "role": "user", "content": "Hello"}
    one = f"{path}/{driver.made(path, {'items': [message], 'metadata': {'topic': 'x'}})}"
    driver.send("GET", one)
    driver.send("POST", one, {"metadata": {"topic": "y"}})
    answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi", "annotations": []}]}
    call = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
    made = driver.send("POST", f"{one}/items", {"items": [answer, call, output]})
    driver.send("POST", "/v1/responses", {"model": MODEL, "input": "And now?", "conversation": one.rpartition("/")[2]})
    driver.send("GET", f"{one}/items", params={"limit": 2, "order": "asc"})
    first = next((item["id"] for item in made.get("data", [])), "missing")
    driver.send("GET", f"{one}/items/{first}")
    driver.send("DELETE", f"{one}/items/{first}")
    driver.send("DELETE", one)
    driver.send("GET", one)
