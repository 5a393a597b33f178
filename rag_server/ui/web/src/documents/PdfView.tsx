import "./pdf.css";
import { ZoomIn, ZoomOut } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import type { Marking } from "./marking";
import { Loading, NOT_FOUND, SeeText } from "./Notices";
import { type OpenPdf, openPdf } from "./pdf";

interface PdfViewProps {
  bytes: Uint8Array;
  /** Counted from 1. */
  page: number;
  marking: Marking;
  onText(): void;
}

type State = { name: "opening" } | { name: "open"; pdf: OpenPdf } | { name: "unreadable" };

export function PdfView({ bytes, page, marking, onText }: PdfViewProps) {
  const container = useRef<HTMLDivElement>(null);
  const [state, setState] = useState<State>({ name: "opening" });
  const [current, setCurrent] = useState(page);
  const [isFound, setFound] = useState(true);
  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    if (container.current === null) return undefined;
    openPdf(container.current, bytes, setCurrent, signal).then(
      (pdf) => !signal.aborted && setState({ name: "open", pdf }),
      () => !signal.aborted && setState({ name: "unreadable" }),
    );
    return () => controller.abort();
  }, [bytes]);
  const pdf = state.name === "open" ? state.pdf : null;
  useEffect(() => {
    let isWanted = true;
    pdf?.show(page, marking.text).then(
      (found) => isWanted && setFound(found),
      () => isWanted && setFound(false),
    );
    return () => {
      isWanted = false;
    };
  }, [pdf, page, marking.text]);
  return (
    <div className="doc-pdf">
      {state.name === "opening" && <Loading what="pages" />}
      {state.name === "unreadable" && <SeeText onText={onText}>This PDF cannot be shown here.</SeeText>}
      {!isFound && <SeeText onText={onText}>{NOT_FOUND}</SeeText>}
      {pdf && <Toolbar pdf={pdf} current={current} />}
      <div className="doc-pdf-frame">
        {/* biome-ignore-start lint/a11y: the viewer takes a <div>; pages are scrolled by keyboard too */}
        <div className="doc-pdf-pages" ref={container} role="region" aria-label="Pages" tabIndex={0}>
          <div className="pdfViewer" />
        </div>
        {/* biome-ignore-end lint/a11y: as above */}
      </div>
    </div>
  );
}

function Toolbar({ pdf, current }: { pdf: OpenPdf; current: number }) {
  return (
    <div className="doc-pdf-bar">
      <span className="muted small">
        Page {current} of {pdf.numPages}
      </span>
      <button type="button" className="icon-button" aria-label="Zoom out" onClick={() => pdf.zoom(-1)}>
        <ZoomOut size={18} aria-hidden />
      </button>
      <button type="button" className="icon-button" aria-label="Zoom in" onClick={() => pdf.zoom(1)}>
        <ZoomIn size={18} aria-hidden />
      </button>
    </div>
  );
}
