/** The files of one collection as far as they are shown, kept up to date. */

import { create, type StoreApi, type UseBoundStore } from "zustand";
import { ApiError } from "../api/http";
import type { FileState, List, StoreFile, VectorStore } from "../api/shapes";
import { type FilePage, getStore, listFiles, PAGE_FILES } from "../api/stores";
import { waitOf } from "./patience";

export interface FilesApi {
  getStore(storeId: string): Promise<VectorStore>;
  listFiles(storeId: string, page: FilePage): Promise<List<StoreFile>>;
}

export interface FileList {
  store: VectorStore | null;
  /** null until the first of them are there. */
  files: StoreFile[] | null;
  hasMore: boolean;
  filter: FileState | null;
  /** Why they could not be asked for the last time. */
  error: Error | null;
  /** Looks what changed; returns how many milliseconds the server wants to be left alone for. */
  refresh(): Promise<number>;
  more(): Promise<number>;
  show(filter: FileState | null): Promise<number>;
  put(file: StoreFile): Promise<number>;
  drop(fileId: string): Promise<number>;
}

export interface Shown {
  files: StoreFile[];
  hasMore: boolean;
}

export function createFileList(
  storeId: string,
  api: FilesApi = { getStore, listFiles },
): UseBoundStore<StoreApi<FileList>> {
  return create<FileList>((set, get) => {
    // One after the other: an answer that was overtaken would show what is no longer so.
    let last: Promise<unknown> = Promise.resolve();
    function inTurn(work: () => Promise<void>): Promise<number> {
      const done = last.then(async () => {
        try {
          await work();
          set({ error: null });
          return 0;
        } catch (error) {
          set({ error: error instanceof Error ? error : new Error(String(error)) });
          return waitOf(error) ?? 0;
        }
      });
      last = done;
      return done;
    }

    function change(how: (files: StoreFile[]) => StoreFile[]): void {
      set(({ files }) => ({ files: files && how(files) }));
    }

    async function loadAfter(after: string | null): Promise<void> {
      const { filter } = get();
      const page = await api.listFiles(storeId, {
        ...(after === null ? {} : { after }),
        ...(filter === null ? {} : { filter }),
      });
      const { files, hasMore, filter: wanted } = get();
      if (wanted === filter) set(merged({ files: files ?? [], hasMore }, page, after));
    }

    const refresh = async () => {
      // Before the files: when nothing is in progress any more, they say so too.
      set({ store: await api.getStore(storeId) });
      await loadAfter(null);
      const after = beforeOldestInProgress(get().files ?? []);
      if (after !== null) await loadAfter(after);
    };

    return {
      store: null,
      files: null,
      hasMore: false,
      filter: null,
      error: null,
      refresh: () => inTurn(refresh),
      more: () => inTurn(async () => loadAfter(get().files?.at(-1)?.id ?? null)),
      show: (filter) => {
        set({ filter, files: null, hasMore: false });
        return inTurn(refresh);
      },
      put: (file) =>
        inTurn(async () => change((files) => files.map((one) => (one.id === file.id ? file : one)))),
      drop: (fileId) => inTurn(async () => change((files) => files.filter(({ id }) => id !== fileId))),
    };
  });
}

/** Whether looking again may show something new. */
export function isChanging({ store, files, error }: FileList): boolean {
  if (error instanceof ApiError && [401, 403, 404].includes(error.status)) return false;
  return (
    (store?.file_counts.in_progress ?? 0) > 0 || (files ?? []).some(({ status }) => status === "in_progress")
  );
}

/**
 * The files after a page came in that follows the file `after`, or is the first.
 *
 * The page says what there is as far as it goes: what was known there and is not in it is gone. Files that are as they
 * were stay the same objects. Where it does not reach the files that were known, those are forgotten: between it and
 * them may be others.
 */
export function merged(known: Shown, page: List<StoreFile>, after: string | null): Shown {
  const start = after === null ? 0 : known.files.findIndex(({ id }) => id === after) + 1;
  if (after !== null && start === 0) return known;
  const before = new Map(known.files.map((file) => [file.id, file]));
  const fresh = page.data.map((file) => {
    const old = before.get(file.id);
    return old !== undefined && JSON.stringify(old) === JSON.stringify(file) ? old : file;
  });
  const ids = new Set(page.data.map(({ id }) => id));
  const overlap = known.files.findLastIndex(({ id }) => ids.has(id));
  const end = !page.has_more || overlap < start ? known.files.length : overlap + 1;
  return {
    files: [...known.files.slice(0, start), ...fresh, ...known.files.slice(end)],
    hasMore: end === known.files.length ? page.has_more : known.hasMore,
  };
}

/**
 * The file after which a page shows the oldest one in progress; null if the first page shows it.
 *
 * The server reads the oldest first, so that is where files change.
 */
export function beforeOldestInProgress(files: readonly StoreFile[]): string | null {
  const oldest = files.findLastIndex(({ status }) => status === "in_progress");
  return oldest < PAGE_FILES ? null : (files[oldest - PAGE_FILES]?.id ?? null);
}

/** How much of a file is read, in whole percent; null while that says nothing. */
export function percentRead({ usage_bytes, rag }: StoreFile): number | null {
  if (usage_bytes <= 0) return null;
  return Math.min(100, Math.floor((100 * rag.bytes_read) / usage_bytes));
}
