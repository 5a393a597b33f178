/** What was dropped or chosen: files, and those in folders, with their paths. */

/** A file, with its path if it came in a folder ("folder/sub/name.pdf"). */
export interface Found {
  file: File;
  path: string | null;
}

/** `hidden` files and folders were left out; `unreadable` ones too, because they could not be read. */
export interface Dropped {
  found: Found[];
  hidden: number;
  unreadable: number;
}

/** The parts of the browser's file entries that are needed. */
export interface Entry {
  isFile: boolean;
  isDirectory: boolean;
  name: string;
}
export interface FileEntry extends Entry {
  file(done: (file: File) => void, failed: (error: unknown) => void): void;
}
export interface FolderEntry extends Entry {
  createReader(): {
    readEntries(done: (entries: Entry[]) => void, failed: (error: unknown) => void): void;
  };
}

/** The entries of a drop; they are there only while it is handled. */
export function entriesOf(items: Iterable<DataTransferItem>): (Entry | File)[] {
  const entries: (Entry | File)[] = [];
  for (const item of items) {
    // Neither for text that is dragged along.
    const entry = item.webkitGetAsEntry() ?? item.getAsFile();
    if (entry !== null) entries.push(entry);
  }
  return entries;
}

/** Reads what was dropped, folders with all that is in them. What is hidden counts only inside of folders. */
export async function walk(entries: readonly (Entry | File)[]): Promise<Dropped> {
  const dropped: Dropped = { found: [], hidden: 0, unreadable: 0 };
  for (const entry of entries) {
    if (entry instanceof File) dropped.found.push({ file: entry, path: null });
    else await visit(entry, null, dropped);
  }
  return dropped;
}

async function visit(entry: Entry, folder: string | null, dropped: Dropped): Promise<void> {
  const path = folder === null ? entry.name : `${folder}/${entry.name}`;
  if (folder !== null && isHidden(entry.name)) {
    dropped.hidden += 1;
    return;
  }
  try {
    if (entry.isDirectory) {
      for (const child of await childrenOf(entry as FolderEntry)) await visit(child, path, dropped);
    } else {
      const file = await new Promise<File>((done, failed) => (entry as FileEntry).file(done, failed));
      dropped.found.push({ file, path: folder === null ? null : path });
    }
  } catch {
    dropped.unreadable += 1;
  }
}

/** Browsers hand out a folder's entries by the hundred, until they hand out none. */
async function childrenOf(folder: FolderEntry): Promise<Entry[]> {
  const reader = folder.createReader();
  const children: Entry[] = [];
  for (;;) {
    const some = await new Promise<Entry[]>((done, failed) => reader.readEntries(done, failed));
    if (some.length === 0) return children;
    children.push(...some);
  }
}

/** What was chosen with a button; files of a folder know their path. */
export function chosen(files: Iterable<File>): Dropped {
  const dropped: Dropped = { found: [], hidden: 0, unreadable: 0 };
  for (const file of files) {
    const path = file.webkitRelativePath || null;
    if (path?.split("/").slice(1).some(isHidden)) dropped.hidden += 1;
    else dropped.found.push({ file, path });
  }
  return dropped;
}

function isHidden(name: string): boolean {
  return name.startsWith(".");
}

/** Each file once: the same path and size are the same file. */
export function distinct(found: readonly Found[]): Found[] {
  return [...new Map(found.map((one) => [`${one.file.size}/${one.path ?? one.file.name}`, one])).values()];
}
