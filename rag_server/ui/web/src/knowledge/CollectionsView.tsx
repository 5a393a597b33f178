import { FolderPlus, Library, MessageSquare, Pencil, Trash2 } from "lucide-react";
import { useEffect, useState } from "react";
import type { VectorStore } from "../api/shapes";
import { listStores } from "../api/stores";
import { hashOf } from "../router";
import { may, server } from "../server-state";
import { ActionsMenu } from "../shell/Menu";
import { DeleteDialog, NewDialog, RenameDialog } from "./CollectionDialogs";
import "./knowledge.css";
import { sizeOf, storeName } from "./naming";
import { waitOf } from "./patience";
import { watch } from "./polling";

/** A button of a collection: asking from it leads to a conversation. */
export interface AskProps {
  onAsk(store: VectorStore): void;
}

/** All collections: what is in them, and what can be done with them. */
export function CollectionsView({ onAsk }: AskProps) {
  const { info, stores } = server();
  const [isNew, setIsNew] = useState(false);
  useUpToDateStores();
  const mayWrite = may(info, "write");
  return (
    <main className="kn-view">
      <header className="kn-head">
        <h1>Collections</h1>
        {mayWrite && (
          <button type="button" className="button primary" onClick={() => setIsNew(true)}>
            <FolderPlus size={18} aria-hidden />
            New collection
          </button>
        )}
      </header>
      <p className="muted">Questions are answered from the files in a collection.</p>
      {stores === null ? (
        <Unknown />
      ) : stores.length === 0 ? (
        <NoCollection mayWrite={mayWrite} />
      ) : (
        <ul className="kn-stores">
          {stores.map((store) => (
            <StoreCard key={store.id} store={store} onAsk={onAsk} />
          ))}
        </ul>
      )}
      {isNew && <NewDialog onClose={() => setIsNew(false)} />}
    </main>
  );
}

function useUpToDateStores(): void {
  useEffect(() => {
    void server.getState().refresh();
    const isBusy = () =>
      server.getState().stores?.some((store) => store.file_counts.in_progress > 0) ?? false;
    return watch(isBusy, async () => {
      try {
        server.setState({ stores: await listStores() });
        return 0;
      } catch (error) {
        // The page as a whole says when the server is not there.
        return waitOf(error) ?? 0;
      }
    });
  }, []);
}

function Unknown() {
  const { info, connection } = server();
  if (info !== null && !may(info, "read")) {
    return (
      <p className="notice">
        This API key may ask, but not look into collections. Use a key with the scope <code>read</code>.
      </p>
    );
  }
  return <p role="status">{connection === "offline" ? "The server is not reached." : "Loading…"}</p>;
}

function NoCollection({ mayWrite }: { mayWrite: boolean }) {
  return (
    <div className="kn-empty">
      <Library size={32} aria-hidden />
      <p>There is no collection yet.</p>
      <p className="muted">
        {mayWrite
          ? "Make one, and put files into it: PDF, Office, web pages, text and more."
          : "This API key may not make one. Use a key with the scope write."}
      </p>
    </div>
  );
}

function StoreCard({ store, onAsk }: { store: VectorStore } & AskProps) {
  const info = server((state) => state.info);
  const [open, setOpen] = useState<"rename" | "delete" | null>(null);
  const name = storeName(store);
  const close = () => setOpen(null);
  return (
    <li className="kn-store">
      <div className="kn-store-text">
        <a className="kn-store-name" dir="auto" href={hashOf({ name: "collection", storeId: store.id })}>
          {name}
        </a>
        <span className="muted small">{sizeOf(store)}</span>
        <StoreTags store={store} />
      </div>
      {may(info, "ask") && (
        <button type="button" className="button" aria-label={`Ask from ${name}`} onClick={() => onAsk(store)}>
          <MessageSquare size={16} aria-hidden />
          Ask
        </button>
      )}
      {may(info, "write") && (
        <ActionsMenu
          label={`Actions for ${name}`}
          actions={[
            { label: "Rename", icon: <Pencil size={16} aria-hidden />, run: () => setOpen("rename") },
            { label: "Delete", icon: <Trash2 size={16} aria-hidden />, run: () => setOpen("delete") },
          ]}
        />
      )}
      {open === "rename" && <RenameDialog store={store} onClose={close} />}
      {open === "delete" && <DeleteDialog store={store} onClose={close} />}
    </li>
  );
}

/** How many files are not as they should be. */
export function StoreTags({ store: { file_counts: counts } }: { store: VectorStore }) {
  return (
    <span className="kn-tags">
      {counts.in_progress > 0 && <span className="tag busy">{counts.in_progress} being read</span>}
      {counts.failed > 0 && <span className="tag bad">{counts.failed} failed</span>}
    </span>
  );
}
