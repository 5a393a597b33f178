import type { Root } from "hast";
import { memo, useCallback, useMemo, useRef } from "react";
import { decodedPage } from "./charset";
import { drawnPage } from "./html";
import { MAX_HTML_BYTES } from "./kinds";
import { useLoaded } from "./loading";
import { type Marking, useScrollToMark } from "./marking";
import { Loading, NOT_FOUND, NOT_LAID_OUT, SeeText } from "./Notices";
import { readPage } from "./reading";

interface HtmlViewProps {
  bytes: Uint8Array;
  marking: Marking;
  characters: number;
  level: number;
  onText(): void;
}

export function HtmlView({ bytes, ...props }: HtmlViewProps) {
  const read = useCallback(
    async (signal: AbortSignal) =>
      bytes.length > MAX_HTML_BYTES ? null : readPage(decodedPage(bytes), signal),
    [bytes],
  );
  const [loaded] = useLoaded(read);
  if (loaded.state === "loading") return <Loading what="document" />;
  if (loaded.state === "failed" || loaded.value === null) {
    return <SeeText onText={props.onText}>{NOT_LAID_OUT}</SeeText>;
  }
  return <Page harmless={loaded.value} {...props} />;
}

interface PageProps extends Omit<HtmlViewProps, "bytes"> {
  harmless: Root;
}

const Page = memo(function Page({ harmless, marking, characters, level, onText }: PageProps) {
  const top = useRef<HTMLDivElement>(null);
  const { page, isFound } = useMemo(
    () => drawnPage(harmless, marking.text, marking.start / Math.max(1, characters), level),
    [harmless, marking.text, marking.start, characters, level],
  );
  useScrollToMark(top, page);
  return (
    <>
      {!isFound && <SeeText onText={onText}>{NOT_FOUND}</SeeText>}
      <div className="doc-rendered" dir="auto" ref={top}>
        {page}
      </div>
    </>
  );
});
