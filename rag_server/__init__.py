"""rag-server: answers from a person's own documents, streamed, with citations that were checked."""

__version__ = "0.1.0"
