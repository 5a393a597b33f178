import { memo, useMemo, useRef } from "react";
import { decodedPage } from "./charset";
import { Guarded } from "./Guarded";
import { drawnPage, harmlessPage } from "./html";
import { MAX_HTML_BYTES } from "./kinds";
import { type Marking, useScrollToMark } from "./marking";
import { NOT_FOUND, SeeText } from "./Notices";

interface HtmlViewProps {
  bytes: Uint8Array;
  marking: Marking;
  characters: number;
  level: number;
  onText(): void;
}

export function HtmlView(props: HtmlViewProps) {
  if (props.bytes.length > MAX_HTML_BYTES) {
    return <SeeText onText={props.onText}>This page is too large to be shown in its layout.</SeeText>;
  }
  return (
    <Guarded onText={props.onText}>
      <Page {...props} />
    </Guarded>
  );
}

const Page = memo(function Page({ bytes, marking, characters, level, onText }: HtmlViewProps) {
  const top = useRef<HTMLDivElement>(null);
  const harmless = useMemo(() => harmlessPage(decodedPage(bytes)), [bytes]);
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
