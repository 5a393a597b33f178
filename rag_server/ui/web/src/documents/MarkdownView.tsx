import type { Root } from "hast";
import { memo, useCallback, useMemo, useRef, useState } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import remarkMath from "remark-math";
import { webOnly } from "../markdown/Markdown";
import { useMathematics } from "../markdown/mathematics";
import { unitOffsets } from "../text";
import { Guarded } from "./Guarded";
import { isTangled } from "./kinds";
import { elementsBelow } from "./layout";
import { type Marking, useScrollToMark } from "./marking";
import { NOT_FOUND, NOT_LAID_OUT, SeeText } from "./Notices";
import { markSource, type Span } from "./quotes";
import { rehypeSafe } from "./safe";

const FRONT_MATTER = /^---[ \t]*\n[\s\S]*?\n---[ \t]*(?:\n|$)/;

interface MarkdownViewProps {
  /** The whole stored text: that of Markdown is the file as it stands. */
  source: string;
  marking: Marking;
  level: number;
  onText(): void;
}

export function MarkdownView(props: MarkdownViewProps) {
  const isRefused = useMemo(() => isTangled(props.source), [props.source]);
  if (isRefused) return <SeeText onText={props.onText}>{NOT_LAID_OUT}</SeeText>;
  return <Layout {...props} />;
}

function Layout({ source, marking, level, onText }: MarkdownViewProps) {
  const top = useRef<HTMLDivElement>(null);
  const [isFound, setFound] = useState(true);
  useScrollToMark(top, `${marking.start} ${marking.end}`);
  const look = useCallback((element: HTMLDivElement | null) => {
    top.current = element;
    if (element !== null) setFound(element.querySelector("mark") !== null);
  }, []);
  const key = `${marking.start} ${marking.end}`;
  return (
    <>
      {!isFound && <SeeText onText={onText}>{NOT_FOUND}</SeeText>}
      <Guarded key={key} onText={onText}>
        <div className="doc-rendered" dir="auto" ref={look}>
          <Rendered source={source} start={marking.start} end={marking.end} level={level} />
        </div>
      </Guarded>
    </>
  );
}

interface RenderedProps {
  source: string;
  start: number;
  end: number;
  level: number;
}

const Rendered = memo(function Rendered({ source, start, end, level }: RenderedProps) {
  const front = FRONT_MATTER.exec(source)?.[0] ?? "";
  const body = source.slice(front.length);
  const mathematics = useMathematics(body);
  const components = useMemo(() => elementsBelow(level) as Components, [level]);
  const unit = unitOffsets(source);
  const span = { start: unit(start) - front.length, end: unit(end) - front.length };
  return (
    <>
      {front !== "" && <pre>{front.trim()}</pre>}
      <ReactMarkdown
        remarkPlugins={[remarkGfm, remarkMath]}
        rehypePlugins={[rehypeSafe, [rehypeMarkSource, body, span], ...mathematics]}
        components={components}
        urlTransform={webOnly}
      >
        {body}
      </ReactMarkdown>
    </>
  );
});

function rehypeMarkSource(source: string, span: Span) {
  return (tree: Root) => {
    markSource(tree, source, span);
  };
}
