import { MessageSquare, Pencil, Trash2 } from "lucide-react";
import { useEffect, useState } from "react";
import { ApiError } from "../api/http";
import type { VectorStore } from "../api/shapes";
import { go, hashOf } from "../router";
import { may, server } from "../server-state";
import { ActionsMenu } from "../shell/Menu";
import { AddFiles } from "./AddFiles";
import { DeleteDialog, RenameDialog } from "./CollectionDialogs";
import { type AskProps, StoreTags } from "./CollectionsView";
import { FilesSection } from "./FilesSection";
import { createFileList, type FileList, isChanging } from "./file-list";
import "./knowledge.css";
import { sizeOf, storeName } from "./naming";
import { watch } from "./polling";
import { SearchSection } from "./SearchSection";
import { UploadPanel } from "./UploadPanel";
import { uploading } from "./uploads";

/** One collection: its files, what is being uploaded into it, and a search in it. */
export function CollectionView({ storeId, onAsk }: { storeId: string } & AskProps) {
  return <Collection key={storeId} storeId={storeId} onAsk={onAsk} />;
}

function Collection({ storeId, onAsk }: { storeId: string } & AskProps) {
  const [useList] = useState(() => createFileList(storeId));
  const list = useList();
  const info = server((state) => state.info);
  const { refresh } = list;
  useEffect(() => {
    void refresh();
    const isUploading = uploading(() => useList.getState().store?.id);
    return watch(() => isUploading() || isChanging(useList.getState()), refresh);
  }, [useList, refresh]);

  const { store } = list;
  if (store === null) return <Missing list={list} />;
  return (
    <main className="kn-view">
      <Head store={store} onAsk={onAsk} onRenamed={refresh} />
      <NotUpToDate list={list} />
      {info !== null && may(info, "write") && <AddFiles storeId={store.id} limits={info.limits} />}
      <UploadPanel storeId={store.id} />
      {may(info, "ask") && store.file_counts.total > 0 && <SearchSection storeId={store.id} />}
      <FilesSection list={list} store={store} mayWrite={may(info, "write")} />
    </main>
  );
}

/** Until the collection is there, or why it is not. */
function Missing({ list: { error, refresh } }: { list: FileList }) {
  return (
    <main className="kn-view">
      <h1>Collection</h1>
      {error === null ? (
        <p role="status">Loading…</p>
      ) : (
        <div role="alert" className="notice error kn-problem">
          {error instanceof ApiError && error.status === 404
            ? "This collection does not exist (any more)."
            : error.message}
        </div>
      )}
      <div className="kn-buttons">
        {error !== null && (
          <button type="button" className="button" onClick={() => refresh()}>
            Try again
          </button>
        )}
        <a href={hashOf({ name: "collections" })}>All collections</a>
      </div>
    </main>
  );
}

function NotUpToDate({ list: { error, refresh } }: { list: FileList }) {
  return (
    <div role="status" className="kn-live">
      {error !== null && (
        <p className="notice warn kn-notice">
          <span>This list may not be up to date: {error.message}</span>
          <button type="button" className="button" onClick={() => refresh()}>
            Try again
          </button>
        </p>
      )}
    </div>
  );
}

interface HeadProps extends AskProps {
  store: VectorStore;
  onRenamed(): void;
}

function Head({ store, onAsk, onRenamed }: HeadProps) {
  const info = server((state) => state.info);
  const [open, setOpen] = useState<"rename" | "delete" | null>(null);
  const close = () => setOpen(null);
  return (
    <header className="kn-head">
      <div className="kn-title">
        <a className="small" href={hashOf({ name: "collections" })}>
          All collections
        </a>
        <h1 dir="auto">{storeName(store)}</h1>
        <span className="muted small">{sizeOf(store)}</span> <StoreTags store={store} />
      </div>
      {may(info, "ask") && (
        <button type="button" className="button primary" onClick={() => onAsk(store)}>
          <MessageSquare size={16} aria-hidden />
          Ask from it
        </button>
      )}
      {may(info, "write") && (
        <ActionsMenu
          label="Actions for this collection"
          actions={[
            { label: "Rename", icon: <Pencil size={16} aria-hidden />, run: () => setOpen("rename") },
            { label: "Delete", icon: <Trash2 size={16} aria-hidden />, run: () => setOpen("delete") },
          ]}
        />
      )}
      {open === "rename" && <RenameDialog store={store} onClose={close} onDone={onRenamed} />}
      {open === "delete" && (
        <DeleteDialog store={store} onClose={close} onDone={() => go({ name: "collections" })} />
      )}
    </header>
  );
}
