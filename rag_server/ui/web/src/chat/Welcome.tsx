import { FolderPlus } from "lucide-react";
import type { ConversationSettings } from "../conversations/settings";
import { hashOf } from "../router";
import { may, server } from "../server-state";
import { counted } from "../text";

/** What is there before the first question: where answers will come from, and what is missing for them. */
export function Welcome({ settings }: { settings: ConversationSettings }) {
  const { info, stores } = server();
  const canAdd = may(info, "write");
  const chosen = stores?.filter(({ name }) => settings.collections.includes(name)) ?? [];
  const numFiles = chosen.reduce((sum, { file_counts }) => sum + file_counts.completed, 0);
  const reading = chosen.reduce((sum, { file_counts }) => sum + file_counts.in_progress, 0);
  const [store] = chosen;
  return (
    <div className="chat-welcome">
      <h2>What do you want to know?</h2>
      {settings.collections.length === 0 && stores?.length === 0 && (
        <>
          <p className="muted">
            There is no collection yet. Put documents into one, and answers come from them, with their
            sources.
          </p>
          {canAdd && (
            <a className="button primary" href={hashOf({ name: "collections" })}>
              <FolderPlus size={16} aria-hidden /> Make a collection
            </a>
          )}
        </>
      )}
      {settings.collections.length === 0 && stores !== null && stores.length > 0 && (
        <p className="muted">No collection is chosen: the model answers alone, without sources.</p>
      )}
      {store && numFiles > 0 && (
        <p className="muted">
          Answers come from {counted(numFiles, "document")} in{" "}
          <strong dir="auto">{settings.collections.join(", ")}</strong>, with the place of every sentence in
          them.
        </p>
      )}
      {reading > 0 && <p className="muted">{counted(reading, "file is", "files are")} still being read.</p>}
      {store && numFiles === 0 && reading === 0 && (
        <>
          <p className="muted">
            The collection <strong dir="auto">{store.name}</strong> is empty.
          </p>
          {canAdd && (
            <a className="button primary" href={hashOf({ name: "collection", storeId: store.id })}>
              <FolderPlus size={16} aria-hidden /> Add documents
            </a>
          )}
        </>
      )}
    </div>
  );
}
