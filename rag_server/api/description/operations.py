"""The operations that this server serves, OpenAI's and its own, each with the published wire types that it takes and gives.

OpenAI's types come from the package `openai`, whose authors generate them from OpenAI's description.
"""

from dataclasses import dataclass
from typing import Any

from openai.types import (
    Batch,
    Completion,
    CreateEmbeddingResponse,
    FileDeleted,
    FileObject,
    Model,
    ModelDeleted,
    Upload,
    VectorStore,
    VectorStoreDeleted,
    batch_create_params,
    upload_complete_params,
    upload_create_params,
    vector_store_create_params,
    vector_store_search_params,
    vector_store_update_params,
)
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionDeleted,
    ChatCompletionStoreMessage,
    completion_update_params,
)
from openai.types.chat.completion_create_params import CompletionCreateParamsBase as ChatParams
from openai.types.completion_create_params import CompletionCreateParamsBase as CompletionParams
from openai.types.conversations import (
    Conversation,
    ConversationDeletedResource,
    ConversationItem,
    conversation_create_params,
    conversation_update_params,
    item_create_params,
)
from openai.types.embedding_create_params import EmbeddingCreateParams
from openai.types.responses import InputTokenCountResponse, Response, ResponseStreamEvent
from openai.types.responses.input_token_count_params import InputTokenCountParams
from openai.types.responses.response_create_params import ResponseCreateParamsBase as ResponseParams
from openai.types.uploads import UploadPart
from openai.types.vector_stores import (
    VectorStoreFile,
    VectorStoreFileBatch,
    VectorStoreFileDeleted,
    file_batch_create_params,
    file_create_params,
    file_update_params,
)

from rag_server.api.description import own, own_answers


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: what it takes, answers, streams, and answers when it cannot (503) are types."""

    method: str
    path: str
    id: str
    group: str
    response: Any
    request: Any = None
    stream: Any = None
    unavailable: Any = None
    request_type: str = "application/json"
    answer_type: str = "application/json"


def _chat() -> list[Operation]:
    group, path, one = "Chat", "/v1/chat/completions", "/v1/chat/completions/{completion_id}"
    return [
        Operation("post", path, "createChatCompletion", group, ChatCompletion, ChatParams, ChatCompletionChunk),
        Operation("get", path, "listChatCompletions", group, own.ListOf[ChatCompletion]),
        Operation("get", one, "getChatCompletion", group, ChatCompletion),
        Operation("post", one, "updateChatCompletion", group, ChatCompletion, completion_update_params.CompletionUpdateParams),
        Operation("delete", one, "deleteChatCompletion", group, ChatCompletionDeleted),
        Operation("get", f"{one}/messages", "getChatCompletionMessages", group, own.ListOf[ChatCompletionStoreMessage]),
    ]


def _models() -> list[Operation]:
    return [
        Operation("post", "/v1/completions", "createCompletion", "Completions", Completion, CompletionParams, own.TextChunk),
        Operation("post", "/v1/embeddings", "createEmbedding", "Embeddings", CreateEmbeddingResponse, EmbeddingCreateParams),
        Operation("get", "/v1/models", "listModels", "Models", own.Models),
        Operation("get", "/v1/models/{model}", "retrieveModel", "Models", Model),
        Operation("delete", "/v1/models/{model}", "deleteModel", "Models", ModelDeleted),
    ]


def _files() -> list[Operation]:
    files, uploads, form = "/v1/files", "/v1/uploads", "multipart/form-data"
    one = f"{files}/{{file_id}}"
    params = upload_create_params.UploadCreateParams
    complete = upload_complete_params.UploadCompleteParams
    return [
        Operation("post", files, "createFile", "Files", FileObject, own.FileForm, request_type=form),
        Operation("get", files, "listFiles", "Files", own.ListOf[FileObject]),
        Operation("get", one, "retrieveFile", "Files", FileObject),
        Operation("delete", one, "deleteFile", "Files", FileDeleted),
        Operation("get", f"{one}/content", "downloadFile", "Files", own.Bytes, answer_type="application/octet-stream"),
        Operation("post", uploads, "createUpload", "Uploads", Upload, params),
        Operation(
            "post", f"{uploads}/{{upload_id}}/parts", "addUploadPart", "Uploads", UploadPart, own.PartForm, request_type=form
        ),
        Operation("post", f"{uploads}/{{upload_id}}/complete", "completeUpload", "Uploads", Upload, complete),
        Operation("post", f"{uploads}/{{upload_id}}/cancel", "cancelUpload", "Uploads", Upload),
    ]


def _vector_stores() -> list[Operation]:
    group, path = "Vector stores", "/v1/vector_stores"
    one, files = f"{path}/{{vector_store_id}}", f"{path}/{{vector_store_id}}/files"
    file, batches = f"{files}/{{file_id}}", f"{one}/file_batches"
    batch = f"{batches}/{{batch_id}}"
    create = vector_store_create_params.VectorStoreCreateParams
    update = vector_store_update_params.VectorStoreUpdateParams
    search = vector_store_search_params.VectorStoreSearchParams
    attach, attributes = file_create_params.FileCreateParams, file_update_params.FileUpdateParams
    many = file_batch_create_params.FileBatchCreateParams
    return [
        Operation("post", path, "createVectorStore", group, VectorStore, create),
        Operation("get", path, "listVectorStores", group, own.ListOf[VectorStore]),
        Operation("get", one, "getVectorStore", group, VectorStore),
        Operation("post", one, "modifyVectorStore", group, VectorStore, update),
        Operation("delete", one, "deleteVectorStore", group, VectorStoreDeleted),
        Operation("post", f"{one}/search", "searchVectorStore", group, own.SearchPage, search),
        Operation("post", files, "createVectorStoreFile", group, VectorStoreFile, attach),
        Operation("get", files, "listVectorStoreFiles", group, own.ListOf[VectorStoreFile]),
        Operation("get", file, "getVectorStoreFile", group, VectorStoreFile),
        Operation("post", file, "updateVectorStoreFileAttributes", group, VectorStoreFile, attributes),
        Operation("delete", file, "deleteVectorStoreFile", group, VectorStoreFileDeleted),
        Operation("get", f"{file}/content", "retrieveVectorStoreFileContent", group, own.ContentPage),
        Operation("post", batches, "createVectorStoreFileBatch", group, VectorStoreFileBatch, many),
        Operation("get", batch, "getVectorStoreFileBatch", group, VectorStoreFileBatch),
        Operation("post", f"{batch}/cancel", "cancelVectorStoreFileBatch", group, VectorStoreFileBatch),
        Operation("get", f"{batch}/files", "listFilesInVectorStoreBatch", group, own.ListOf[VectorStoreFile]),
    ]


def _responses() -> list[Operation]:
    group, path, one = "Responses", "/v1/responses", "/v1/responses/{response_id}"
    return [
        Operation("post", path, "createResponse", group, Response, ResponseParams, ResponseStreamEvent),
        Operation("get", one, "getResponse", group, Response, None, ResponseStreamEvent),
        Operation("delete", one, "deleteResponse", group, own.DeletedResponse),
        Operation("post", f"{path}/input_tokens", "countInputTokens", group, InputTokenCountResponse, InputTokenCountParams),
        Operation("post", f"{one}/cancel", "cancelResponse", group, Response),
        Operation("get", f"{one}/input_items", "listInputItems", group, own.ResponseItems),
    ]


def _conversations() -> list[Operation]:
    group, path, one = "Conversations", "/v1/conversations", "/v1/conversations/{conversation_id}"
    items, item = f"{one}/items", f"{one}/items/{{item_id}}"
    create, update = conversation_create_params.ConversationCreateParams, conversation_update_params.ConversationUpdateParams
    add = item_create_params.ItemCreateParams
    return [
        Operation("post", path, "createConversation", group, Conversation, create),
        Operation("get", one, "getConversation", group, Conversation),
        Operation("post", one, "updateConversation", group, Conversation, update),
        Operation("delete", one, "deleteConversation", group, ConversationDeletedResource),
        Operation("post", items, "createConversationItems", group, own.ConversationItems, add),
        Operation("get", items, "listConversationItems", group, own.ConversationItems),
        Operation("get", item, "getConversationItem", group, ConversationItem),
        Operation("delete", item, "deleteConversationItem", group, Conversation),
    ]


def _batches() -> list[Operation]:
    group, path, one = "Batch", "/v1/batches", "/v1/batches/{request_batch_id}"
    return [
        Operation("post", path, "createBatch", group, Batch, batch_create_params.BatchCreateParams),
        Operation("get", path, "listBatches", group, own.ListOf[Batch]),
        Operation("get", one, "retrieveBatch", group, Batch),
        Operation("post", f"{one}/cancel", "cancelBatch", group, Batch),
    ]


def _own() -> list[Operation]:
    file, passage = "/v1/vector_stores/{vector_store_id}/files/{file_id}", "/v1/passages/{passage_id}"
    octets = "application/octet-stream"
    return [
        Operation("get", "/health", "getHealth", "Server", own.Health),
        Operation("get", "/ready", "getReadiness", "Server", own.Readiness, unavailable=own.Readiness),
        Operation("get", "/metrics", "getMetrics", "Server", str, answer_type="text/plain"),
        Operation("get", "/openapi.json", "getDescription", "Server", dict[str, Any]),
        Operation("get", "/v1/rag", "getServer", "Server", own.ServerObject),
        Operation("get", passage, "getPassage", "Passages", own_answers.PassageResponse),
        Operation("get", f"{passage}/text", "getPassageText", "Passages", own_answers.PassageText),
        Operation("get", f"{passage}/original", "getPassageOriginal", "Passages", own.Bytes, answer_type=octets),
        Operation("get", f"{file}/passages", "listPassages", "Passages", own.ListOfPassages),
        Operation("post", "/v1/rerank", "rerank", "Rerank", own.JinaRerankResponse),
        Operation("post", "/v2/rerank", "rerankAsCohere", "Rerank", own.CohereRerankResponse),
        Operation("post", f"{file}/cancel", "cancelVectorStoreFile", "Vector stores", VectorStoreFile),
    ]


OPERATIONS: tuple[Operation, ...] = (
    *_chat(),
    *_models(),
    *_files(),
    *_vector_stores(),
    *_responses(),
    *_conversations(),
    *_batches(),
    *_own(),
)
