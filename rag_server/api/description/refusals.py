"""What OpenAI's types allow and this server refuses, by operation: the description says so in words.

Fields that a closed body does not have are found from the body itself and need no line here.
"""

_ITEMS = (
    "items other than message, function_call, function_call_output, reasoning, file_search_call and item_reference: the calls "
    "of hosted tools and what they gave"
)
_URLS = "`file_url` of an input_file: nothing is fetched for a request; send `file_data` or `file_id`"
_DIALOGUE = (
    "tools other than `function` and `file_search`, and a `tool_choice` of such a tool: this server runs no hosted tools",
    _ITEMS,
    _URLS,
    "`hybrid_search` with unequal weights, unless one is 0",
    "a request without `input`",
)
REFUSALS: dict[str, tuple[str, ...]] = {
    "createChatCompletion": (
        "what the engine refuses: every field goes on to it; audio, web search and predictions take an engine with them",
        "an empty list of messages",
    ),
    "createCompletion": (
        "with a `rag/` model: several prompts or tokens, `echo`, `suffix` and `best_of` above 1",
        "what the engine refuses: every other field goes on to it",
    ),
    "createEmbedding": ("`dimensions` other than the model's own, unless the model was trained to be cut",),
    "deleteModel": ("every model but `rag/` ones: those of the engine are served as the settings say",),
    "createResponse": (*_DIALOGUE, "`prompt`, `moderation` and `context_management`"),
    "getResponse": ("`stream` for a response that was not made with `background` and `stream`",),
    "countInputTokens": _DIALOGUE,
    "createBatch": ("an `endpoint` other than those of chat completions, completions, embeddings and responses",),
    "createConversation": (_ITEMS,),
    "createConversationItems": (_ITEMS,),
}
