import "./documents.css";
import { Download, X } from "lucide-react";
import { useCallback, useRef, useState } from "react";
import { ApiError } from "../api/http";
import { go } from "../router";
import { saveFile } from "../saving";
import { placeName } from "../text";
import { original, type PassageDetail, passageDetail, type Range } from "./api";
import { FileViews } from "./FileViews";
import { useLoaded } from "./loading";
import { Failed, Loading, messageOf } from "./Notices";

interface DocumentViewProps {
  passageId: number;
  quote: Range | null;
  /** Left out where it is a page of its own. */
  onClose?(): void;
  /** Shows another passage; by default at its own address. */
  onMove?(passageId: number): void;
}

/** A passage in its document. */
export function DocumentView({ passageId, quote, onClose, onMove = goToPassage }: DocumentViewProps) {
  const load = useCallback((signal: AbortSignal) => passageDetail(passageId, signal), [passageId]);
  const [loaded, retry] = useLoaded(load);
  // While the next passage is asked for, the last one stays, so that its file is not loaded again.
  const last = useRef<{ passage: PassageDetail; quote: Range | null } | null>(null);
  if (loaded.state === "ready") last.current = { passage: loaded.value, quote };
  if (loaded.state === "failed") last.current = null;
  const shown = last.current;
  const level = onClose === undefined ? 1 : 2;
  return (
    <article className="doc-view" aria-busy={loaded.state === "loading"}>
      <Head passage={shown?.passage ?? null} level={level} {...(onClose ? { onClose } : {})} />
      {shown === null && loaded.state === "loading" && <Loading what="document" />}
      {loaded.state === "failed" && <NotThere error={loaded.error} onRetry={retry} />}
      {shown && <FileViews key={shown.passage.file_id} {...shown} level={level} onMove={onMove} />}
    </article>
  );
}

function goToPassage(passageId: number) {
  go({ name: "passage", passageId });
}

function NotThere({ error, onRetry }: { error: unknown; onRetry(): void }) {
  if (!(error instanceof ApiError) || error.status !== 404) return <Failed error={error} onRetry={onRetry} />;
  return (
    <p className="notice doc-notice" role="alert">
      This passage is gone: its file was removed, or indexed anew since. Ask again to see what is there now.
    </p>
  );
}

interface HeadProps {
  passage: PassageDetail | null;
  level: number;
  onClose?(): void;
}

function Head({ passage, level, onClose }: HeadProps) {
  const Title = level === 1 ? "h1" : "h2";
  const about = passage === null ? [] : [passage.filename, placeName(passage.place)];
  const title = passage === null ? "Document" : passage.title || passage.filename;
  return (
    <header className="doc-head">
      <div className="doc-titles">
        <Title dir="auto" title={title}>
          {title}
        </Title>
        <p className="muted small" dir="auto">
          {about.filter((part) => part !== "" && part !== title).join(" · ")}
        </p>
      </div>
      {passage && <DownloadButton key={passage.file_id} passage={passage} />}
      {onClose && (
        <button type="button" className="icon-button" aria-label="Close document" onClick={onClose}>
          <X size={18} aria-hidden />
        </button>
      )}
    </header>
  );
}

/** A link could not send the key. */
function DownloadButton({ passage }: { passage: PassageDetail }) {
  const [state, setState] = useState<{ isBusy: boolean; error: string | null }>({
    isBusy: false,
    error: null,
  });
  async function download() {
    setState({ isBusy: true, error: null });
    try {
      saveFile(passage.filename, await original(passage.id), "application/octet-stream");
      setState({ isBusy: false, error: null });
    } catch (error) {
      setState({ isBusy: false, error: messageOf(error) });
    }
  }
  return (
    <>
      <button
        type="button"
        className="icon-button"
        aria-label="Download the original file"
        disabled={state.isBusy}
        onClick={download}
      >
        <Download size={18} aria-hidden />
      </button>
      {state.error !== null && (
        <p className="notice error doc-download-error" role="alert">
          {state.error}
        </p>
      )}
    </>
  );
}
