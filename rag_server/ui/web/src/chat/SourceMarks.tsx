import * as Ariakit from "@ariakit/react";
import { createContext, type ReactNode, useCallback, useContext, useMemo, useState } from "react";
import type { Citation, Source } from "../api/shapes";
import { documentPanel } from "../documents/panel";
import { MarkContext } from "../markdown/Markdown";
import { placeName } from "../text";
import { citationAt } from "./grounding";

interface SourceMarksProps {
  sources: readonly Source[];
  citations: readonly Citation[];
  /** Whether the citations are still to come. */
  isPending: boolean;
  children: ReactNode;
}

interface Hovered {
  source: Source;
  number: number;
  citation: Citation | null;
}

type Hover = (hovered: Hovered, mark: HTMLElement) => void;
const HoverContext = createContext<Hover>(() => undefined);

/** Makes buttons of the marks inside, with one card that shows the quote of whichever is pointed at. */
export function SourceMarks({ sources, citations, isPending, children }: SourceMarksProps) {
  const card = Ariakit.useHovercardStore({ placement: "top" });
  const [hovered, setHovered] = useState<Hovered | null>(null);
  const hover = useCallback<Hover>(
    (shown, mark) => {
      card.setAnchorElement(mark);
      setHovered(shown);
      card.show();
    },
    [card],
  );
  const draw = useMemo(() => {
    return function drawMark(number: number, at: number | null) {
      const source = sources[number - 1];
      if (source === undefined) return `[${number}]`;
      const citation = citationAt(citations, source.id, at);
      return <MarkButton shown={{ source, number, citation }} isPending={isPending} />;
    };
  }, [sources, citations, isPending]);
  return (
    <HoverContext value={hover}>
      <MarkContext value={draw}>{children}</MarkContext>
      <Ariakit.Hovercard
        store={card}
        className="floating chat-quote"
        aria-label="Quote"
        gutter={6}
        portal
        unmountOnHide
        autoFocusOnShow={false}
      >
        {hovered && <Quote {...hovered} isPending={isPending} />}
      </Ariakit.Hovercard>
    </HoverContext>
  );
}

function MarkButton({ shown, isPending }: { shown: Hovered; isPending: boolean }) {
  const hover = useContext(HoverContext);
  const { source, number, citation } = shown;
  const state = isPending ? "pending" : citation?.verified ? "verified" : "unverified";
  return (
    <button
      type="button"
      className="chat-mark"
      data-state={state}
      aria-label={`Source ${number}: ${source.filename}${state === "unverified" ? ", unverified" : ""}`}
      onMouseEnter={(event) => hover(shown, event.currentTarget)}
      onFocus={(event) => hover(shown, event.currentTarget)}
      onClick={() => documentPanel.getState().open({ passageId: source.id, quote: quoteOf(citation) })}
    >
      {number}
    </button>
  );
}

export function quoteOf(citation: Citation | null): { start: number; end: number } | null {
  if (citation === null || citation.start === null || citation.end === null) return null;
  return { start: citation.start, end: citation.end };
}

function Quote({ source, citation, isPending }: Hovered & { isPending: boolean }) {
  const place = placeName(source.place);
  return (
    <>
      <p className="chat-quote-head">
        <strong dir="auto">{source.title || source.filename}</strong>
        <span className="muted">
          {source.filename}
          {place && ` · ${place}`}
        </span>
      </p>
      {citation?.quote ? (
        <blockquote dir="auto">{citation.quote}</blockquote>
      ) : (
        <blockquote dir="auto" className="muted">
          {shortened(source.text)}
        </blockquote>
      )}
      <p className="small">
        {isPending && "Passage given to the model; the quote is checked when the answer is complete."}
        {!isPending && citation?.verified && (
          <span className="tag good">Verified: this stands in the document</span>
        )}
        {!isPending && !citation?.verified && (
          <span className="tag bad">Unverified: nothing in this passage supports the sentence</span>
        )}
      </p>
    </>
  );
}

function shortened(text: string): string {
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
