"""The prompt as it would be without its defences, to compare with: the passages as they are stored, between blank lines."""

from rag_server.pipeline import PreparedAnswer
from rag_server.prompt import question_of
from rag_server.protocols import Json

INSTRUCTIONS = (
    "You are given passages of documents and a question. Answer the question from the passages and cite them, like [2]. "
    "If the passages do not hold the answer, say so."
)


def undefended_messages(prepared: PreparedAnswer) -> list[Json]:
    """Return the messages for the same passages in the same order, of a request with a single question."""
    passages = "\n\n".join(
        f"[{number}] {passage.title or passage.filename}\n{passage.text}"
        for number, passage in enumerate(prepared.prompt.passages, start=1)
    )
    question = question_of(prepared.request.body["messages"])
    return [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": f"Passages:\n\n{passages}\n\nQuestion: {question}"},
    ]
