import { FilePlus2, FolderPlus, Upload } from "lucide-react";
import { type ChangeEvent, useEffect, useRef, useState } from "react";
import { bytes, counted } from "../text";
import { chosen, type Dropped, entriesOf, walk } from "./dropping";
import type { UploadLimits } from "./upload-queue";
import { uploads } from "./uploads";

interface AddFilesProps {
  storeId: string;
  limits: UploadLimits;
}

const CAN_CHOOSE_FOLDERS = "webkitdirectory" in HTMLInputElement.prototype;

/** Takes files and folders: dropped anywhere on the page, or chosen. */
export function AddFiles({ storeId, limits }: AddFilesProps) {
  const [note, setNote] = useState("");
  function add(dropped: Dropped) {
    setNote(noteOf(dropped));
    uploads.getState().add(storeId, dropped.found, limits);
  }
  const isOver = useDrop(async (entries) => {
    setNote("Looking through what was dropped…");
    add(await walk(entries));
  });
  return (
    <section className="kn-add" aria-label="Add files">
      <p>Drop files or folders here, up to {bytes(limits.max_file_bytes)} each, or choose them:</p>
      <div className="kn-buttons">
        <Chooser label="Add files" icon={<FilePlus2 size={18} aria-hidden />} onChosen={add} />
        {CAN_CHOOSE_FOLDERS && (
          <Chooser label="Add folder" icon={<FolderPlus size={18} aria-hidden />} isFolder onChosen={add} />
        )}
      </div>
      <p role="status" className="small kn-live">
        {note}
      </p>
      {isOver && (
        <div className="kn-over">
          <Upload size={36} aria-hidden />
          Drop to add to this collection
        </div>
      )}
    </section>
  );
}

interface ChooserProps {
  label: string;
  icon: React.ReactNode;
  isFolder?: boolean;
  onChosen(dropped: Dropped): void;
}

function Chooser({ label, icon, isFolder = false, onChosen }: ChooserProps) {
  const input = useRef<HTMLInputElement>(null);
  function take({ target }: ChangeEvent<HTMLInputElement>) {
    onChosen(chosen(target.files ?? []));
    // The same files can be chosen again.
    target.value = "";
  }
  return (
    <>
      <button type="button" className="button" onClick={() => input.current?.click()}>
        {icon}
        {label}
      </button>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        onChange={take}
        {...(isFolder ? { webkitdirectory: "" } : {})}
      />
    </>
  );
}

/** Takes files that are dropped anywhere on the page; returns whether some are over it. */
function useDrop(onDrop: (entries: ReturnType<typeof entriesOf>) => void): boolean {
  const [isOver, setIsOver] = useState(false);
  const drop = useRef(onDrop);
  drop.current = onDrop;
  useEffect(() => {
    const ended = new AbortController();
    const listen = (type: "dragover" | "dragleave" | "drop", handle: (event: DragEvent) => void) =>
      addEventListener(type, handle, { signal: ended.signal });
    listen("dragover", (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
      setIsOver(true);
    });
    listen("dragleave", ({ relatedTarget }) => {
      // Nothing is entered in its place: it left the page.
      if (relatedTarget === null) setIsOver(false);
    });
    listen("drop", (event) => {
      setIsOver(false);
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      drop.current(entriesOf(event.dataTransfer.items));
    });
    return () => ended.abort();
  }, []);
  return isOver;
}

/** What came of a drop, as far as it is not seen in the list of uploads. */
function noteOf({ found, hidden, unreadable }: Dropped): string {
  const notes: string[] = [];
  if (found.length === 0) notes.push("There are no files in it.");
  if (hidden > 0)
    notes.push(`${counted(hidden, "hidden file or folder", "hidden files or folders")} left out.`);
  if (unreadable > 0)
    notes.push(`${counted(unreadable, "file or folder", "files or folders")} could not be read.`);
  return notes.join(" ");
}
