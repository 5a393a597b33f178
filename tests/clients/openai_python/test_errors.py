"""The openai package's typed errors."""

import openai
import pytest
from openai import AsyncOpenAI, OpenAI


def test_a_wrong_key_is_an_authentication_error(server) -> None:
    with OpenAI(base_url=server.base_url, api_key="rag-wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as raised:
            client.models.list()

    assert raised.value.status_code == 401
    assert raised.value.type in ("invalid_request_error", "authentication_error")
    assert "key" in raised.value.message
    assert "rag-wrong" not in raised.value.message
    assert raised.value.request_id


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    for model in ("rag/nowhere", "no-such-model"):
        with pytest.raises(openai.NotFoundError) as raised:
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])
        assert raised.value.code == "model_not_found"
        assert model in raised.value.message


def test_an_unknown_object_is_not_found(client: OpenAI) -> None:
    for find in (
        lambda: client.files.retrieve("file-nowhere"),
        lambda: client.vector_stores.retrieve("vs_nowhere"),
        lambda: client.responses.retrieve("resp_nowhere"),
        lambda: client.conversations.retrieve("conv_nowhere"),
        lambda: client.models.retrieve("nowhere"),
        lambda: client.chat.completions.retrieve("chatcmpl-nowhere"),
    ):
        with pytest.raises(openai.NotFoundError) as raised:
            find()
        assert raised.value.type == "invalid_request_error"


def test_another_tenants_objects_are_not_found(client: OpenAI, server) -> None:
    """With another tenant's key everything is as if it were not there."""
    file = client.files.create(file=("own.txt", b"own"), purpose="assistants")
    response = client.responses.create(model="scripted", input="mine")
    with OpenAI(base_url=server.base_url, api_key=server.foreign_key, max_retries=0) as foreign:
        for find in (
            lambda: foreign.files.retrieve(file.id),
            lambda: foreign.vector_stores.retrieve("handbook"),
            lambda: foreign.responses.retrieve(response.id),
            lambda: foreign.chat.completions.create(model="rag/handbook", messages=[{"role": "user", "content": "hello"}]),
        ):
            with pytest.raises(openai.NotFoundError):
                find()
        assert list(foreign.files.list()) == []
        assert list(foreign.vector_stores.list()) == []
    client.files.delete(file.id)


def test_a_faulty_request_is_a_bad_request_that_names_the_field(client: OpenAI) -> None:
    for send, param in (
        (lambda: client.chat.completions.create(model="scripted", messages=[]), "messages"),
        (lambda: client.chat.completions.create(model="scripted", messages="hello"), "messages"),
        (lambda: client.vector_stores.search("handbook", query="x", max_num_results=0), "max_num_results"),
        (lambda: client.files.create(file=("x.txt", b"x"), purpose="nonsense"), "purpose"),
        (lambda: client.responses.create(model="scripted", input="x", previous_response_id=5), "previous_response_id"),
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            send()
        assert raised.value.status_code == 400
        assert raised.value.param == param
        assert raised.value.type == "invalid_request_error"


def test_an_unknown_route_has_openais_shape(client: OpenAI) -> None:
    """A client that asks for what this server does not have gets a typed error, not a page."""
    with pytest.raises(openai.NotFoundError) as raised:
        client.images.generate(prompt="a boat", model="scripted")

    assert raised.value.body["message"]


async def test_the_asynchronous_client_raises_the_same(async_client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await async_client.chat.completions.create(model="rag/nowhere", messages=[{"role": "user", "content": "hello"}])
