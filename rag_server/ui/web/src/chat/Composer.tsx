import { ArrowUp, Square } from "lucide-react";
import { type FormEvent, type KeyboardEvent, type ReactNode, useEffect, useRef, useState } from "react";

interface ComposerProps {
  /** What the draft belongs to: another one has a draft of its own. */
  id: string;
  isAnswering: boolean;
  /** Why nothing can be asked, if so. */
  refusal: string | null;
  onAsk(question: string): void;
  onStop(): void;
  children: ReactNode;
}

const drafts = new Map<string, string>();

/** Where a question is written: Enter sends, Shift and Enter makes a new line, Escape stops the answer. */
export function Composer({ id, isAnswering, refusal, onAsk, onStop, children }: ComposerProps) {
  const [text, setText] = useState(drafts.get(id) ?? "");
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    setText(drafts.get(id) ?? "");
    field.current?.focus();
  }, [id]);
  function change(changed: string) {
    drafts.set(id, changed);
    setText(changed);
  }
  const canAsk = text.trim() !== "" && !isAnswering && refusal === null;
  function submit(event?: FormEvent) {
    event?.preventDefault();
    if (!canAsk) return;
    onAsk(text.trim());
    change("");
  }
  function onKeyDown(event: KeyboardEvent) {
    if (event.key === "Escape" && isAnswering) onStop();
    // While an input method composes a word, Enter chooses it.
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    submit();
  }
  return (
    <form className="chat-composer" onSubmit={submit}>
      <label className="visually-hidden" htmlFor="question">
        Question
      </label>
      <div className="chat-composer-box">
        <textarea
          id="question"
          ref={field}
          rows={1}
          dir="auto"
          placeholder="Ask your documents…"
          value={text}
          onChange={(event) => change(event.target.value)}
          onKeyDown={onKeyDown}
        />
        <div className="chat-composer-foot">
          {children}
          {isAnswering ? (
            <button type="button" className="button primary" onClick={onStop}>
              <Square size={14} aria-hidden /> Stop
            </button>
          ) : (
            <button type="submit" className="button primary" disabled={!canAsk}>
              <ArrowUp size={16} aria-hidden /> Ask
            </button>
          )}
        </div>
      </div>
      {refusal && <p className="muted small">{refusal}</p>}
    </form>
  );
}
