import { Pencil } from "lucide-react";
import { useState } from "react";
import type { QuestionTurn } from "../conversations/tree";
import { CopyButton } from "../markdown/Markdown";
import { type Versions, VersionsOf } from "./Versions";

interface QuestionProps {
  turn: QuestionTurn;
  versions: Versions;
  /** Null while an answer is on its way. */
  onEdited: ((question: string) => void) | null;
}

export function Question({ turn, versions, onEdited }: QuestionProps) {
  const [isEditing, setEditing] = useState(false);
  return (
    <article className="chat-question" aria-label="Question">
      {isEditing ? (
        <Editor
          text={turn.content}
          onCancel={() => setEditing(false)}
          onDone={(question) => {
            setEditing(false);
            onEdited?.(question);
          }}
        />
      ) : (
        <>
          <p dir="auto">{turn.content}</p>
          <div className="chat-actions">
            <CopyButton label="Copy question" text={() => turn.content} />
            {onEdited && (
              <button
                type="button"
                className="icon-button"
                aria-label="Edit question"
                title="Edit question"
                onClick={() => setEditing(true)}
              >
                <Pencil size={16} aria-hidden />
              </button>
            )}
            <VersionsOf versions={versions} />
          </div>
        </>
      )}
    </article>
  );
}

function Editor({ text, onCancel, onDone }: { text: string; onCancel(): void; onDone(text: string): void }) {
  const [edited, setEdited] = useState(text);
  return (
    <form
      className="chat-editor"
      onSubmit={(event) => {
        event.preventDefault();
        if (edited.trim() !== "") onDone(edited.trim());
      }}
      onKeyDown={(event) => event.key === "Escape" && onCancel()}
    >
      <textarea
        className="input"
        aria-label="Edited question"
        dir="auto"
        rows={3}
        value={edited}
        // biome-ignore lint/a11y/noAutofocus: whoever asked to edit wants to write
        autoFocus
        onChange={(event) => setEdited(event.target.value)}
      />
      <div className="dialog-actions">
        <button type="button" className="button" onClick={onCancel}>
          Cancel
        </button>
        <button type="submit" className="button primary" disabled={edited.trim() === ""}>
          Ask edited question
        </button>
      </div>
    </form>
  );
}
