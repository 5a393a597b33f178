import "./chat.css";
import { BookOpen, SlidersHorizontal } from "lucide-react";
import { useEffect, useMemo, useState } from "react";
import type { ServerInfo } from "../api/shapes";
import type { Conversation } from "../conversations/database";
import { type ConversationSettings, collectionNames, firstSettings } from "../conversations/settings";
import { conversations } from "../conversations/store";
import { go } from "../router";
import { may, server } from "../server-state";
import { askAfter, running, stop } from "./asking";
import { Composer } from "./Composer";
import { newConversationSettings } from "./draft";
import { SettingsDialog } from "./SettingsDialog";
import { Thread } from "./Thread";
import { Welcome } from "./Welcome";

/** A conversation, or the beginning of one. */
export function ChatView({ conversationId }: { conversationId: string | null }) {
  const conversation = useConversation(conversationId);
  const [areSettingsOpen, setSettingsOpen] = useState(false);
  const [settings, setSettings] = useSettings(conversation);
  const isAnswering = running(({ answers }) => conversationId !== null && conversationId in answers);
  const info = server(({ info: known }) => known);
  function askNow(question: string) {
    const asked = conversation ?? conversations.getState().create(question, settings);
    if (conversation === null) go({ name: "chat", conversationId: asked.id });
    void askAfter(asked.id, asked.tree.head, question);
  }
  return (
    <main className="chat" aria-label="Conversation">
      <header className="chat-head">
        <h1 dir="auto">{conversation?.title ?? "New conversation"}</h1>
        <button
          type="button"
          className="icon-button"
          aria-label="Settings"
          onClick={() => setSettingsOpen(true)}
        >
          <SlidersHorizontal size={18} aria-hidden />
        </button>
      </header>
      {conversation ? (
        <Thread key={conversation.id} conversation={conversation} isAnswering={isAnswering} />
      ) : (
        <Welcome settings={settings} />
      )}
      <Composer
        id={conversationId ?? "new"}
        isAnswering={isAnswering}
        refusal={refusalOf(info)}
        onAsk={askNow}
        onStop={() => conversationId !== null && stop(conversationId)}
      >
        <button type="button" className="button small chat-collections" onClick={() => setSettingsOpen(true)}>
          <BookOpen size={14} aria-hidden />
          <span dir="auto">
            {settings.collections.length > 0
              ? `Collections: ${settings.collections.join(", ")}`
              : "Without documents"}
          </span>
        </button>
      </Composer>
      {areSettingsOpen && (
        <SettingsDialog settings={settings} onSave={setSettings} onClose={() => setSettingsOpen(false)} />
      )}
    </main>
  );
}

function refusalOf(info: ServerInfo | null): string | null {
  if (info === null) return "The server is not there yet; what you write stays.";
  return may(info, "ask") ? null : "This key may not ask questions.";
}

function useConversation(id: string | null): Conversation | null {
  const owner = conversations((state) => state.owner);
  const found = conversations((state) => (id === null ? undefined : state.open[id]));
  useEffect(() => {
    if (id === null || owner === null) return;
    void conversations
      .getState()
      .find(id)
      // Deleted, or another key's.
      .then((kept) => kept === null && go({ name: "chat", conversationId: null }, { replace: true }));
  }, [id, owner]);
  return found ?? null;
}

/** The settings of the conversation, or those with which a new one will begin. */
function useSettings(
  conversation: Conversation | null,
): [ConversationSettings, (settings: ConversationSettings) => void] {
  const models = server((state) => state.models);
  const draft = newConversationSettings((state) => state.settings);
  const first = useMemo(() => firstSettings(models), [models]);
  const isStale =
    draft !== null && !draft.collections.every((name) => collectionNames(models).includes(name));
  const settings = conversation?.settings ?? (draft === null || isStale ? first : draft);
  function change(changed: ConversationSettings) {
    newConversationSettings.setState({ settings: changed });
    if (conversation === null) return;
    conversations.getState().change(conversation.id, (before) => ({ ...before, settings: changed }));
  }
  return [settings, change];
}
