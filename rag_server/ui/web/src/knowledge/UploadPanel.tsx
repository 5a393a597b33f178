import { RotateCcw, X } from "lucide-react";
import { memo, useMemo } from "react";
import { bytes, counted } from "../text";
import { summaryOf, type UploadItem, type UploadState, type UploadSummary } from "./upload-queue";
import { uploads } from "./uploads";

/** Of thousands, these are enough to see. */
const MAX_SHOWN = 50;
const SHOWN_FIRST: readonly UploadState[] = ["sending", "paused", "failed", "refused", "waiting"];

/** What is on its way into a collection, and what did not get there. */
export function UploadPanel({ storeId }: { storeId: string }) {
  const all = uploads((state) => state.items);
  const items = useMemo(() => all.filter((item) => item.storeId === storeId), [all, storeId]);
  const summary = summaryOf(items);
  const shown = SHOWN_FIRST.flatMap((state) => items.filter((item) => item.state === state));
  return (
    <section className="kn-uploads" aria-label="Uploads" hidden={items.length === 0}>
      <div className="kn-uploads-head">
        <p role="status">{items.length > 0 && inWords(summary)}</p>
        <div className="kn-buttons">
          <PanelButtons storeId={storeId} summary={summary} />
        </div>
      </div>
      {summary.underWay > 0 && (
        <progress
          className="kn-progress"
          aria-label="All uploads"
          max={Math.max(1, summary.totalBytes)}
          value={summary.sentBytes}
        />
      )}
      <ul className="kn-rows">
        {shown.slice(0, MAX_SHOWN).map((item) => (
          <UploadRow key={item.id} item={item} />
        ))}
      </ul>
      {shown.length > MAX_SHOWN && (
        <p className="muted small">and {counted(shown.length - MAX_SHOWN, "more file")}</p>
      )}
    </section>
  );
}

/** It changes with every file, not with every byte: it is read out. */
function inWords({ total, done, failed, refused, underWay }: UploadSummary): string {
  const numFailed = failed + refused;
  const failures = numFailed > 0 ? `, ${numFailed} not uploaded` : "";
  if (underWay > 0) return `Uploading: ${done} of ${counted(total, "file")} done${failures}`;
  return numFailed > 0
    ? `${done} of ${counted(total, "file")} uploaded${failures}`
    : `${counted(done, "file")} uploaded`;
}

function PanelButtons({ storeId, summary }: { storeId: string; summary: UploadSummary }) {
  const { removeAll, retryFailed } = uploads.getState();
  return (
    <>
      {summary.failed > 0 && (
        <button type="button" className="button" onClick={() => retryFailed(storeId)}>
          Retry failed
        </button>
      )}
      <button type="button" className="button" onClick={() => removeAll(storeId)}>
        {summary.underWay > 0 ? "Cancel all" : "Clear"}
      </button>
    </>
  );
}

const UploadRow = memo(function UploadRow({ item }: { item: UploadItem }) {
  const { remove, retry } = uploads.getState();
  const isOver = item.state === "failed" || item.state === "refused";
  return (
    <li className="kn-row">
      <div className="kn-row-text">
        <bdi className="kn-name">{item.path ?? item.name}</bdi>
        <UploadStateText item={item} />
        {(item.state === "sending" || item.state === "paused") && (
          <progress
            className="kn-progress"
            aria-label={`Upload of ${item.name}`}
            max={Math.max(1, item.size)}
            value={item.sent}
          />
        )}
      </div>
      {item.state === "failed" && (
        <button
          type="button"
          className="icon-button"
          aria-label={`Retry ${item.name}`}
          onClick={() => retry(item.id)}
        >
          <RotateCcw size={18} aria-hidden />
        </button>
      )}
      <button
        type="button"
        className="icon-button"
        aria-label={`${isOver ? "Dismiss" : "Cancel"} ${item.name}`}
        onClick={() => remove(item.id)}
      >
        <X size={18} aria-hidden />
      </button>
    </li>
  );
});

function UploadStateText({ item: { state, size, sent, reason, resumesAt } }: { item: UploadItem }) {
  if (reason !== null) {
    return (
      <span className="small kn-bad" dir="auto">
        {reason}
      </span>
    );
  }
  if (state === "paused" && resumesAt !== null) {
    const at = new Date(resumesAt).toLocaleTimeString();
    return <span className="small kn-warn">The server is busy. It goes on by itself at {at}.</span>;
  }
  return (
    <span className="muted small">
      {state === "waiting" ? `${bytes(size)}, waiting` : `${bytes(sent)} of ${bytes(size)}`}
    </span>
  );
}
