"""Links of the description: what can be done next with the object that an operation made, found by its id."""

from dataclasses import dataclass, field

from rag_server.protocols import Json

_ID = "$response.body#/id"
_STORE = {"vector_store_id": _ID}
_IN_STORE = {"vector_store_id": "$response.body#/vector_store_id"}
_FILE = {**_IN_STORE, "file_id": _ID}
_BATCH = {**_IN_STORE, "batch_id": _ID}
_FIRST_MODEL = {"model": "$response.body#/data/0/id"}
_ITEM = {"conversation_id": "$request.path.conversation_id", "item_id": "$response.body#/data/0/id"}


@dataclass(frozen=True, slots=True)
class _Link:
    """An operation that may follow, and where what it takes is found."""

    following: str
    parameters: dict[str, str]
    body: Json = field(default_factory=dict)


# The operation that makes an object -> those that take it.
_LINKS: dict[str, tuple[_Link, ...]] = {
    "listModels": (_Link("retrieveModel", _FIRST_MODEL), _Link("deleteModel", _FIRST_MODEL)),
    "createChatCompletion": tuple(
        _Link(name, {"completion_id": _ID})
        for name in ("getChatCompletion", "updateChatCompletion", "getChatCompletionMessages", "deleteChatCompletion")
    ),
    "createFile": (
        *(_Link(name, {"file_id": _ID}) for name in ("retrieveFile", "downloadFile", "deleteFile")),
        _Link("createVectorStore", {}, {"file_ids": [_ID]}),
        _Link("createBatch", {}, {"input_file_id": _ID, "endpoint": "/v1/chat/completions", "completion_window": "24h"}),
    ),
    "createUpload": tuple(_Link(name, {"upload_id": _ID}) for name in ("addUploadPart", "completeUpload", "cancelUpload")),
    "addUploadPart": (_Link("completeUpload", {"upload_id": "$request.path.upload_id"}, {"part_ids": [_ID]}),),
    "createVectorStore": tuple(
        _Link(name, _STORE)
        for name in (
            "getVectorStore",
            "modifyVectorStore",
            "searchVectorStore",
            "createVectorStoreFile",
            "listVectorStoreFiles",
            "createVectorStoreFileBatch",
            "deleteVectorStore",
        )
    ),
    "createVectorStoreFile": tuple(
        _Link(name, _FILE)
        for name in (
            "getVectorStoreFile",
            "updateVectorStoreFileAttributes",
            "retrieveVectorStoreFileContent",
            "listPassages",
            "cancelVectorStoreFile",
            "deleteVectorStoreFile",
        )
    ),
    "createVectorStoreFileBatch": tuple(
        _Link(name, _BATCH) for name in ("getVectorStoreFileBatch", "cancelVectorStoreFileBatch", "listFilesInVectorStoreBatch")
    ),
    "searchVectorStore": tuple(
        _Link(name, {"passage_id": "$response.body#/data/0/rag/passage_id"})
        for name in ("getPassage", "getPassageText", "getPassageOriginal")
    ),
    "createResponse": (
        *(_Link(name, {"response_id": _ID}) for name in ("getResponse", "cancelResponse", "listInputItems", "deleteResponse")),
        _Link("createResponse", {}, {"previous_response_id": _ID}),
    ),
    "createBatch": tuple(_Link(name, {"request_batch_id": _ID}) for name in ("retrieveBatch", "cancelBatch")),
    "createConversation": (
        *(
            _Link(name, {"conversation_id": _ID})
            for name in (
                "getConversation",
                "updateConversation",
                "createConversationItems",
                "listConversationItems",
                "deleteConversation",
            )
        ),
        _Link("createResponse", {}, {"conversation": _ID}),
    ),
    "createConversationItems": tuple(_Link(name, _ITEM) for name in ("getConversationItem", "deleteConversationItem")),
}


def links(operation_id: str, served: frozenset[str]) -> Json:
    """Return the links of an operation to those that are served."""
    return {
        link.following: {
            "operationId": link.following,
            **({"parameters": link.parameters} if link.parameters else {}),
            **({"requestBody": link.body} if link.body else {}),
        }
        for link in _LINKS.get(operation_id, ())
        if link.following in served
    }
