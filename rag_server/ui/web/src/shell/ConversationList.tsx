import { Download, FileJson, Pencil, Trash2 } from "lucide-react";
import { useDeferredValue, useEffect, useState } from "react";
import type { Conversation, ConversationHead } from "../conversations/database";
import { asJson, asMarkdown, fileName } from "../conversations/exporting";
import { conversations } from "../conversations/store";
import { useRoute } from "../router";
import { saveFile } from "../saving";
import { actionsLabel, ConversationItem, RenameItem } from "./ConversationItem";
import { type MenuAction, RowActions, useRowMenu } from "./Menu";

/** The conversations of this browser, the latest first; the field finds what was said in them. */
export function ConversationList({ onGone }: { onGone?: () => void }) {
  const { heads, problem } = conversations();
  const [wanted, setWanted] = useState("");
  // A thousand of them are drawn bit by bit.
  const found = useDeferredValue(useFound(wanted, heads));
  const [renamedId, setRenamedId] = useState<string | null>(null);
  const menu = useRowMenu<ConversationHead>();
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
        {found.map((head) =>
          head.id === renamedId ? (
            <RenameItem key={head.id} head={head} onDone={() => setRenamedId(null)} />
          ) : (
            <ConversationItem
              key={head.id}
              head={head}
              isShown={head.id === shownId}
              isMenuOpen={menu.isOpen && menu.row?.id === head.id}
              onMenu={menu.open}
              onGone={onGone}
            />
          ),
        )}
      </ul>
      <RowActions menu={menu} label={actionsLabel} actions={(head) => actionsOf(head, setRenamedId)} />
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

function actionsOf({ id }: ConversationHead, rename: (id: string) => void): MenuAction[] {
  return [
    { label: "Rename", icon: <Pencil size={16} aria-hidden />, run: () => rename(id) },
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
  ];
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
