import { Download, FileJson, Pencil, Trash2 } from "lucide-react";
import { memo, useDeferredValue, useEffect, useRef, useState } from "react";
import type { Conversation, ConversationHead } from "../conversations/database";
import { asJson, asMarkdown, fileName } from "../conversations/exporting";
import { conversations } from "../conversations/store";
import { hashOf, useRoute } from "../router";
import { saveFile } from "../saving";
import { ActionsMenu } from "./Menu";

/** The conversations of this browser, the latest first; the field finds what was said in them. */
export function ConversationList({ onGone }: { onGone?: () => void }) {
  const { heads, problem } = conversations();
  const [wanted, setWanted] = useState("");
  const found = useFound(wanted, heads);
  const route = useRoute();
  const shownId = route.name === "chat" ? route.conversationId : null;
  return (
    <>
      <label className="side-search">
        <span className="visually-hidden">Search conversations</span>
        <input
          id="search-conversations"
          type="search"
          className="input"
          placeholder="Search conversations"
          dir="auto"
          value={wanted}
          onChange={(event) => setWanted(event.target.value)}
        />
      </label>
      {problem && <p className="notice warn small">{problem}</p>}
      <ul className="side-list" aria-label="Conversations">
        {found.map((head) => (
          <ConversationItem
            key={head.id}
            head={head}
            isShown={head.id === shownId}
            {...(onGone ? { onGone } : {})}
          />
        ))}
      </ul>
      {found.length === 0 && (
        <p className="muted small side-empty">
          {wanted ? "Nothing found." : "Conversations are kept in this browser."}
        </p>
      )}
      <Undo />
    </>
  );
}

function useFound(wanted: string, heads: ConversationHead[]): ConversationHead[] {
  const text = useDeferredValue(wanted.trim());
  const [found, setFound] = useState<ConversationHead[] | null>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: what has changed in the list is searched again
  useEffect(() => {
    let isLatest = true;
    if (text === "") setFound(null);
    else
      void conversations
        .getState()
        .search(text)
        .then((heads) => isLatest && setFound(heads));
    return () => {
      isLatest = false;
    };
  }, [text, heads]);
  return text === "" || found === null ? heads : found;
}

interface ItemProps {
  head: ConversationHead;
  isShown: boolean;
  onGone?: () => void;
}

const ConversationItem = memo(function ConversationItem({ head, isShown, onGone }: ItemProps) {
  const [isRenaming, setRenaming] = useState(false);
  if (isRenaming) return <RenameItem head={head} onDone={() => setRenaming(false)} />;
  const { id, title } = head;
  return (
    <li className="side-item" data-shown={isShown || undefined}>
      <a
        href={hashOf({ name: "chat", conversationId: id })}
        aria-current={isShown ? "page" : undefined}
        dir="auto"
        onClick={onGone}
      >
        {title}
      </a>
      <LazyActions title={title}>
        {() => [
          { label: "Rename", icon: <Pencil size={16} aria-hidden />, run: () => setRenaming(true) },
          {
            label: "Export as Markdown",
            icon: <Download size={16} aria-hidden />,
            run: () => void exported(id, "md", "text/markdown", asMarkdown),
          },
          {
            label: "Export as JSON",
            icon: <FileJson size={16} aria-hidden />,
            run: () => void exported(id, "json", "application/json", asJson),
          },
          {
            label: "Delete",
            icon: <Trash2 size={16} aria-hidden />,
            run: () => void conversations.getState().delete(id),
          },
        ]}
      </LazyActions>
    </li>
  );
});

/** A menu is made for the conversation that it is wanted of, and not for a thousand. */
function LazyActions({
  title,
  children,
}: {
  title: string;
  children(): Parameters<typeof ActionsMenu>[0]["actions"];
}) {
  return <ActionsMenu label={`Actions for ${title}`} actions={children()} />;
}

function RenameItem({ head, onDone }: { head: ConversationHead; onDone(): void }) {
  const [title, setTitle] = useState(head.title);
  const isCancelled = useRef(false);
  function finish() {
    if (!isCancelled.current) void conversations.getState().rename(head.id, title);
    onDone();
  }
  return (
    <li className="side-item">
      <input
        className="input"
        aria-label="Name of the conversation"
        dir="auto"
        value={title}
        // biome-ignore lint/a11y/noAutofocus: whoever asked to rename wants to write
        autoFocus
        onFocus={(event) => event.target.select()}
        onChange={(event) => setTitle(event.target.value)}
        onBlur={finish}
        onKeyDown={(event) => {
          if (event.key === "Escape") isCancelled.current = true;
          if (event.key === "Escape" || event.key === "Enter") event.currentTarget.blur();
        }}
      />
    </li>
  );
}

async function exported(
  id: string,
  ending: string,
  type: string,
  as: (conversation: Conversation) => string,
) {
  const conversation = await conversations.getState().find(id);
  if (conversation !== null) saveFile(fileName(conversation.title, ending), as(conversation), type);
}

/** Brings back what was deleted last. */
function Undo() {
  const deleted = conversations((state) => state.deleted);
  return (
    <div role="status">
      {deleted && (
        <p className="side-undo small">
          <span dir="auto">“{deleted.title}” is deleted.</span>
          <button type="button" className="button small" onClick={() => conversations.getState().undelete()}>
            Undo
          </button>
        </p>
      )}
    </div>
  );
}
