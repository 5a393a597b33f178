import { ArrowDown } from "lucide-react";
import { memo } from "react";
import type { Conversation } from "../conversations/database";
import { conversations } from "../conversations/store";
import { branch, show, siblings, type Turn } from "../conversations/tree";
import { Answer } from "./Answer";
import { answer, askAfter } from "./asking";
import { useFollowing } from "./following";
import { Question } from "./Question";
import type { Versions } from "./Versions";

/** The turns of a conversation; it follows the answer down for as long as the reader stays at its end. */
export function Thread({ conversation, isAnswering }: { conversation: Conversation; isAnswering: boolean }) {
  const turns = branch(conversation.tree);
  const last = turns.at(-1);
  const { region, isAtEnd, toEnd } = useFollowing<HTMLElement>(turns.length, isAnswering);
  return (
    <div className="chat-thread-frame">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it is scrolled by keyboard too */}
      <section className="chat-thread" ref={region} aria-label="Messages" tabIndex={0}>
        <div className="chat-turns">
          {turns.map((turn) => (
            <ShownTurn
              key={turn.id}
              turn={turn}
              conversationId={conversation.id}
              siblingIds={siblings(conversation.tree, turn)
                .map(({ id }) => id)
                .join(" ")}
              isAnswering={isAnswering}
            />
          ))}
        </div>
      </section>
      <p className="visually-hidden" role="status">
        {isAnswering
          ? "Answering…"
          : last?.role === "assistant" && last.state === "complete"
            ? "The answer is complete."
            : ""}
      </p>
      {!isAtEnd && (
        <button type="button" className="button chat-to-end" onClick={toEnd} aria-label="To the end">
          <ArrowDown size={16} aria-hidden />
        </button>
      )}
    </div>
  );
}

interface ShownTurnProps {
  turn: Turn;
  conversationId: string;
  /** Of all turns in this place, apart by spaces: equal ones are the same text. */
  siblingIds: string;
  isAnswering: boolean;
}

/** Turns that did not change are not drawn again while an answer streams. */
const ShownTurn = memo(function ShownTurn({ turn, conversationId, siblingIds, isAnswering }: ShownTurnProps) {
  const ids = siblingIds.split(" ");
  const versions: Versions = {
    ids,
    index: ids.indexOf(turn.id),
    onShow: (id) =>
      conversations
        .getState()
        .change(conversationId, (before) => ({ ...before, tree: show(before.tree, id) })),
  };
  if (turn.role === "user") {
    return (
      <Question
        turn={turn}
        versions={versions}
        onEdited={isAnswering ? null : (edited) => void askAfter(conversationId, turn.parent, edited)}
      />
    );
  }
  const questionId = turn.parent;
  return (
    <Answer
      turn={turn}
      versions={versions}
      onAgain={isAnswering || questionId === null ? null : () => void answer(conversationId, questionId)}
    />
  );
});
