import { RefreshCw } from "lucide-react";
import { useDeferredValue, useEffect, useMemo, useState } from "react";
import type { AnswerTurn } from "../conversations/tree";
import { CopyButton, Markdown } from "../markdown/Markdown";
import { groundedIn } from "./grounding";
import { SourceMarks } from "./SourceMarks";
import { Sources } from "./Sources";
import { type Versions, VersionsOf } from "./Versions";

interface AnswerProps {
  turn: AnswerTurn;
  versions: Versions;
  onAgain: (() => void) | null;
}

const NO_SOURCES: never[] = [];

export function Answer({ turn, versions, onAgain }: AnswerProps) {
  const { content, rag, state } = turn;
  const { marks, citations } = useMemo(() => groundedIn(content, rag), [content, rag]);
  const sources = rag?.passages ?? NO_SOURCES;
  const isStreaming = state === "streaming";
  // Whoever uses the page goes before what is added to a long answer.
  const shown = useDeferredValue(content);
  return (
    <article className="chat-answer" aria-label="Answer" aria-busy={isStreaming}>
      <p className="chat-from muted small" dir="auto">
        {turn.model}
      </p>
      <SourceMarks sources={sources} citations={citations} isPending={rag?.citations === undefined}>
        <div className="chat-text">
          <Markdown source={shown} numPassages={sources.length} grounding={marks} />
        </div>
      </SourceMarks>
      {isStreaming && <Waiting hasText={content !== ""} hasSources={sources.length > 0} />}
      <Ending turn={turn} onAgain={onAgain} />
      {rag && !isStreaming && <Sources rag={rag} citations={citations} />}
      {!isStreaming && (
        <div className="chat-actions">
          {content !== "" && <CopyButton label="Copy answer" text={() => content} />}
          {onAgain && (
            <button
              type="button"
              className="icon-button"
              aria-label="Ask again"
              title="Ask again"
              onClick={onAgain}
            >
              <RefreshCw size={16} aria-hidden />
            </button>
          )}
          <VersionsOf versions={versions} />
        </div>
      )}
    </article>
  );
}

function Waiting({ hasText, hasSources }: { hasText: boolean; hasSources: boolean }) {
  if (hasText) return <span className="chat-caret" aria-hidden />;
  return (
    <p className="chat-waiting muted">
      <span className="chat-dots" aria-hidden>
        <i />
        <i />
        <i />
      </span>
      {hasSources ? "Reading the passages…" : "Searching…"}
    </p>
  );
}

/** Says how the answer ended, where there is something to be said. */
function Ending({ turn, onAgain }: { turn: AnswerTurn; onAgain: (() => void) | null }) {
  const { state, error, content, rag, finishReason } = turn;
  if (state === "stopped") return <p className="muted small">Stopped.</p>;
  if (state === "interrupted") {
    return (
      <p className="notice warn" role="alert">
        {error}
        {content !== "" && " What had come is kept."} Ask again when the server answers.
      </p>
    );
  }
  if (state === "failed") return <Failed turn={turn} onAgain={onAgain} />;
  if (state !== "complete") return null;
  if (rag?.passages?.length === 0) {
    return (
      <p className="notice">
        Nothing was found in the documents; the answer, if there is one, rests on none.
      </p>
    );
  }
  if (finishReason === "length")
    return <p className="notice warn">The answer was cut: it reached the longest length.</p>;
  return null;
}

function Failed({ turn, onAgain }: { turn: AnswerTurn; onAgain: (() => void) | null }) {
  return (
    <div className="notice error" role="alert">
      <p>{turn.error}</p>
      {turn.retryAfterS !== null && onAgain && (
        <Countdown key={turn.id} seconds={Math.ceil(turn.retryAfterS)} onAgain={onAgain} />
      )}
    </div>
  );
}

/** Counts down to when the server may be asked again; then the button works. */
function Countdown({ seconds, onAgain }: { seconds: number; onAgain(): void }) {
  const [left, setLeft] = useState(seconds);
  useEffect(() => {
    if (left <= 0) return undefined;
    const timer = window.setTimeout(() => setLeft(left - 1), 1000);
    return () => window.clearTimeout(timer);
  }, [left]);
  return (
    <button type="button" className="button" disabled={left > 0} onClick={onAgain}>
      {left > 0 ? `Again in ${left} s` : "Ask again"}
    </button>
  );
}
