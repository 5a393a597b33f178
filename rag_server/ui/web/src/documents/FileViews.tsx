import * as Ariakit from "@ariakit/react";
import { lazy, type ReactNode, Suspense, useCallback, useState } from "react";
import type { PassageDetail, PassageText, Range } from "./api";
import { original, passageText } from "./api";
import { useAround } from "./around";
import { isTooLong, type Kind, kindOf } from "./kinds";
import { type Loaded, useLoaded } from "./loading";
import { type Marking, markingOf } from "./marking";
import { Failed, Loading, SeeText } from "./Notices";
import { Passages } from "./Passages";
import { TextView } from "./TextView";

const PdfView = lazy(() => import("./PdfView").then(({ PdfView }) => ({ default: PdfView })));
const HtmlView = lazy(() => import("./HtmlView").then(({ HtmlView }) => ({ default: HtmlView })));
const MarkdownView = lazy(() =>
  import("./MarkdownView").then(({ MarkdownView }) => ({ default: MarkdownView })),
);

interface FileViewsProps {
  passage: PassageDetail;
  quote: Range | null;
  level: number;
  onMove(passageId: number): void;
}

/** One file in its views: as it was laid out, as text, and cut into passages. Another file wants another of these. */
export function FileViews({ passage, quote, level, onMove }: FileViewsProps) {
  const named = kindOf(passage.filename);
  const isLong = isTooLong(named, passage.characters);
  const kind = isLong ? null : named;
  const [tab, setTab] = useState<string | null | undefined>(kind === null ? "text" : "document");
  const showText = useCallback(() => setTab("text"), []);
  const [loadedText, retryText, moveText] = useText(passage);
  const passages = useAround(passage);
  const marking = markingOf(passage, quote);
  const shared = { passage, marking, level, onText: showText };
  function move(id: number) {
    setTab(kind === null ? "text" : "document");
    onMove(id);
  }
  return (
    <Ariakit.TabProvider selectedId={tab} setSelectedId={setTab}>
      <Ariakit.TabList className="doc-tabs" aria-label="Views of the document">
        {kind !== null && <Tab id="document">Document</Tab>}
        <Tab id="text">Text</Tab>
        {!passages.isForbidden && <Tab id="passages">Passages</Tab>}
      </Ariakit.TabList>
      {kind !== null && (
        <Panel tabId="document">
          <DocumentLayout {...shared} kind={kind} text={loadedText} onRetryText={retryText} />
        </Panel>
      )}
      <Panel tabId="text">
        {isLong && (
          <p className="doc-notice muted small">This document is too long to be shown in its layout.</p>
        )}
        <When loaded={loadedText} what="text" onRetry={retryText}>
          {(text) => <TextView text={text} passage={passage} marking={marking} onMove={moveText} />}
        </When>
      </Panel>
      <Panel tabId="passages">
        <Passages passages={passages} currentId={passage.id} onMove={move} />
      </Panel>
    </Ariakit.TabProvider>
  );
}

function Tab({ id, children }: { id: string; children: string }) {
  return (
    <Ariakit.Tab id={id} className="doc-tab">
      {children}
    </Ariakit.Tab>
  );
}

function Panel({ tabId, children }: { tabId: string; children: ReactNode }) {
  return (
    <Ariakit.TabPanel tabId={tabId} className="doc-scroll" unmountOnHide tabIndex={0}>
      {children}
    </Ariakit.TabPanel>
  );
}

interface DocumentLayoutProps {
  kind: Kind;
  passage: PassageDetail;
  marking: Marking;
  level: number;
  text: Loaded<PassageText>;
  onRetryText(): void;
  onText(): void;
}

function DocumentLayout({ kind, text, onRetryText, ...props }: DocumentLayoutProps) {
  const { marking, level, onText } = props;
  if (kind !== "markdown") return <OriginalLayout kind={kind} {...props} />;
  return (
    <When loaded={text} what="document" onRetry={onRetryText}>
      {({ text: source }) => (
        <Suspense fallback={<Loading what="document" />}>
          <MarkdownView source={source} marking={marking} level={level} onText={onText} />
        </Suspense>
      )}
    </When>
  );
}

interface OriginalLayoutProps extends Omit<DocumentLayoutProps, "kind" | "text" | "onRetryText"> {
  kind: "pdf" | "html";
}

function OriginalLayout({ kind, passage, marking, level, onText }: OriginalLayoutProps) {
  // Whatever passage of the file is shown, the file is the same.
  const [id] = useState(passage.id);
  const load = useCallback((signal: AbortSignal) => original(id, signal), [id]);
  const [loaded, retry] = useLoaded(load);
  const page = Number(passage.place.page ?? 1);
  return (
    <>
      {loaded.state === "failed" && <SeeText onText={onText}>The text is still there:</SeeText>}
      <When loaded={loaded} what="document" onRetry={retry}>
        {(bytes) => (
          <Suspense fallback={<Loading what="document" />}>
            {kind === "pdf" ? (
              <PdfView bytes={bytes} page={page} marking={marking} onText={onText} />
            ) : (
              <HtmlView
                bytes={bytes}
                marking={marking}
                characters={passage.characters}
                level={level}
                onText={onText}
              />
            )}
          </Suspense>
        )}
      </When>
    </>
  );
}

interface WhenProps<T> {
  loaded: Loaded<T>;
  what: string;
  onRetry(): void;
  children(value: T): ReactNode;
}

function When<T>({ loaded, what, onRetry, children }: WhenProps<T>) {
  if (loaded.state === "loading") return <Loading what={what} />;
  if (loaded.state === "failed") return <Failed error={loaded.error} onRetry={onRetry} />;
  return children(loaded.value);
}

/** The stretch of text around the passage, or another that was moved to; kept while the passage is in it. */
function useText(passage: PassageDetail): [Loaded<PassageText>, () => void, (range: Range | null) => void] {
  const [at, setAt] = useState<{ passage: PassageDetail; range: Range | null }>({ passage, range: null });
  const load = useCallback((signal: AbortSignal) => passageText(at.passage.id, at.range, signal), [at]);
  const [loaded, retry] = useLoaded(load);
  const isSame = at.passage.id === passage.id;
  if (!isSame && !(at.passage.document_id === passage.document_id && covers(loaded, passage))) {
    setAt({ passage, range: null });
  }
  const move = useCallback((range: Range | null) => setAt({ passage, range }), [passage]);
  return [loaded, retry, move];
}

function covers(loaded: Loaded<PassageText>, passage: Range): boolean {
  return loaded.state === "ready" && loaded.value.start <= passage.start && loaded.value.end >= passage.end;
}
