import { FileText } from "lucide-react";
import { type RefObject, useCallback, useRef, useState } from "react";
import type { FileState, StoreFile, VectorStore } from "../api/shapes";
import { cancelFile, firstPassage, readAgain } from "../api/stores";
import { documentPanel } from "../documents/panel";
import { useRowMenu } from "../shell/Menu";
import { messageOf } from "../text";
import { AttributesDialog, RemoveDialog } from "./FileDialogs";
import { type FileAction, FileMenu } from "./FileMenu";
import { FileRow } from "./FileRow";
import type { FileList } from "./file-list";
import { STATE_NAMES } from "./naming";

interface FilesProps {
  list: FileList;
  store: VectorStore;
  mayWrite: boolean;
}

/** The files of a collection, and what can be done with each. */
export function FilesSection({ list, store, mayWrite }: FilesProps) {
  const menu = useRowMenu<StoreFile>();
  const title = useRef<HTMLHeadingElement>(null);
  const { note, open, act, asked, close } = useFileActions(list, () => focusIfLost(title));
  return (
    <section className="kn-files" aria-labelledby="kn-files-title">
      <div className="kn-files-head">
        <h2 id="kn-files-title" ref={title} tabIndex={-1}>
          Files
        </h2>
        <StateFilter filter={list.filter} onChange={list.show} />
      </div>
      <p role="status" className="small kn-live">
        {note}
      </p>
      <Rows list={list} store={store} mayWrite={mayWrite}>
        {(file) => (
          <FileRow
            key={file.id}
            file={file}
            isMenuOpen={menu.isOpen && menu.row?.id === file.id}
            onOpen={open}
            onMenu={mayWrite ? menu.open : null}
          />
        )}
      </Rows>
      {mayWrite && <FileMenu menu={menu} onAct={act} />}
      {asked?.action === "attributes" && (
        <AttributesDialog file={asked.file} onSaved={list.put} onClose={close} />
      )}
      {asked?.action === "remove" && (
        <RemoveDialog
          file={asked.file}
          onRemoved={async (fileId) => {
            await list.drop(fileId);
            await list.refresh();
          }}
          onClose={close}
        />
      )}
    </section>
  );
}

function useFileActions(list: FileList, onClosed: () => void) {
  const { put, refresh } = list;
  const [note, setNote] = useState("");
  const [asked, setAsked] = useState<{ file: StoreFile; action: FileAction } | null>(null);

  const trying = useCallback(async (action: () => Promise<string>) => {
    try {
      setNote(await action());
    } catch (error) {
      setNote(messageOf(error));
    }
  }, []);

  const open = useCallback((file: StoreFile) => trying(() => openFile(file)), [trying]);

  function act(file: StoreFile, action: FileAction) {
    if (action === "attributes" || action === "remove") setAsked({ file, action });
    else {
      void trying(async () => {
        await put(await (action === "cancel" ? cancelFile(file) : readAgain(file)));
        await refresh();
        return action === "cancel" ? "Cancelled." : "It is read again.";
      });
    }
  }
  function close() {
    setAsked(null);
    onClosed();
  }
  return { note, open, act, asked, close };
}

/** A file that was removed takes the button with it that the focus would go back to. */
function focusIfLost(title: RefObject<HTMLElement | null>): void {
  requestAnimationFrame(() => {
    if (document.activeElement === document.body) title.current?.focus();
  });
}

/** Shows a file from its beginning; returns what to say. */
async function openFile(file: StoreFile): Promise<string> {
  const passage = await firstPassage(file);
  if (passage === null)
    return `There is nothing to show of ${file.rag.filename}: no text was read out of it yet.`;
  documentPanel.getState().open({ passageId: passage.id, quote: null });
  return "";
}

interface StateFilterProps {
  filter: FileState | null;
  onChange(filter: FileState | null): void;
}

function StateFilter({ filter, onChange }: StateFilterProps) {
  return (
    <select
      className="input kn-filter"
      aria-label="Show files by state"
      value={filter ?? ""}
      onChange={({ target }) => onChange(target.value === "" ? null : (target.value as FileState))}
    >
      <option value="">All files</option>
      {Object.entries(STATE_NAMES).map(([state, name]) => (
        <option key={state} value={state}>
          {name}
        </option>
      ))}
    </select>
  );
}

function Rows({
  list,
  store,
  mayWrite,
  children,
}: FilesProps & { children(file: StoreFile): React.ReactNode }) {
  const { files, filter, hasMore, error, more } = list;
  const [isLoading, setIsLoading] = useState(false);
  if (files === null) return error === null ? <p role="status">Loading…</p> : null;
  if (files.length === 0) return <NoFiles isFiltered={filter !== null} mayWrite={mayWrite} />;
  async function loadMore() {
    setIsLoading(true);
    await more();
    setIsLoading(false);
  }
  return (
    <>
      <ul className="kn-rows">{files.map(children)}</ul>
      {hasMore && (
        <div className="kn-more">
          <button type="button" className="button" disabled={isLoading} onClick={loadMore}>
            Show more
          </button>
          <span className="muted small">
            {files.length.toLocaleString("en")}
            {filter === null && ` of ${store.file_counts.total.toLocaleString("en")}`} shown
          </span>
        </div>
      )}
    </>
  );
}

function NoFiles({ isFiltered, mayWrite }: { isFiltered: boolean; mayWrite: boolean }) {
  return (
    <div className="kn-empty">
      <FileText size={32} aria-hidden />
      <p>{isFiltered ? "No file is in this state." : "There are no files in this collection yet."}</p>
      {!isFiltered && mayWrite && <p className="muted">Drop files or folders on this page.</p>}
    </div>
  );
}
