import { memo } from "react";
import type { FileState, StoreFile } from "../api/shapes";
import { RowMenuButton } from "../shell/Menu";
import { bytes } from "../text";
import { percentRead } from "./file-list";
import { stateName } from "./naming";

interface FileRowProps {
  file: StoreFile;
  isMenuOpen: boolean;
  onOpen(file: StoreFile): void;
  /** null where nothing may be changed. */
  onMenu: ((file: StoreFile, button: HTMLElement) => void) | null;
}

const TAGS: Record<FileState, string> = {
  in_progress: "tag busy",
  completed: "tag good",
  failed: "tag bad",
  cancelled: "tag",
};

/** There may be thousands: a row is drawn anew only when its file changes. */
export const FileRow = memo(function FileRow({ file, isMenuOpen, onOpen, onMenu }: FileRowProps) {
  const { filename } = file.rag;
  return (
    <li className="kn-row kn-file">
      <div className="kn-row-text">
        <button type="button" className="kn-open kn-name" dir="auto" onClick={() => onOpen(file)}>
          {filename}
        </button>
        <span className="kn-details small">
          <span className={TAGS[file.status]}>{stateName(file)}</span>
          <span className="muted">{bytes(file.usage_bytes)}</span>
          <Attributes file={file} />
        </span>
        <ReadProgress file={file} />
        {file.last_error !== null && (
          <span className="small kn-bad" dir="auto">
            {file.last_error.message}
          </span>
        )}
      </div>
      {onMenu !== null && (
        <RowMenuButton row={file} label={`Actions for ${filename}`} isOpen={isMenuOpen} onOpen={onMenu} />
      )}
    </li>
  );
});

function ReadProgress({ file }: { file: StoreFile }) {
  const percent = percentRead(file);
  if (file.status !== "in_progress" || file.rag.is_queued || percent === null) return null;
  return (
    <progress className="kn-progress" aria-label={`Reading ${file.rag.filename}`} max={100} value={percent} />
  );
}

function Attributes({ file: { attributes } }: { file: StoreFile }) {
  return Object.entries(attributes).map(([key, value]) => (
    <bdi key={key} className="kn-attribute muted">
      {key}: {typeof value === "boolean" ? (value ? "yes" : "no") : String(value)}
    </bdi>
  ));
}
