import "./markdown.css";
import { Check, Copy } from "lucide-react";
import {
  type ComponentProps,
  createContext,
  memo,
  type ReactNode,
  useContext,
  useDeferredValue,
  useRef,
  useState,
} from "react";
import ReactMarkdown, { type Components, defaultUrlTransform } from "react-markdown";
import remarkGfm from "remark-gfm";
import remarkMath from "remark-math";
import { type Block, blocksOf } from "./blocks";
import { remarkWithinBlocks } from "./dialect";
import { rehypeHighlighting } from "./highlighting";
import { type Grounding, rehypeMarks, UNGROUNDED } from "./marks";
import { useMathematics } from "./mathematics";

/** A longer block is shown as it is written: reading it again and again would hold up the page. */
const LONGEST_BLOCK = 20_000;

/** Draws the mark [number]; `at` is its offset in the source, null where that is not known. */
export type DrawMark = (number: number, at: number | null) => ReactNode;
export const MarkContext = createContext<DrawMark>((number) => <sup>[{number}]</sup>);
const BlockStart = createContext(0);

interface MarkdownProps {
  source: string;
  numPassages?: number;
  /** Offsets in the source. */
  grounding?: Grounding;
}

/** Markdown of a stranger: no HTML, no images, no links but those to the web; cheap to show again when it has grown. */
export function Markdown({ source, numPassages = 0, grounding = UNGROUNDED }: MarkdownProps) {
  const before = useRef<Block[]>([]);
  before.current = blocksOf(source, before.current);
  // It comes for all blocks at once, when the answer is complete; they are drawn anew one by one.
  const grounded = useDeferredValue(grounding);
  return before.current.map((block) => (
    <BlockStart key={block.start} value={block.start}>
      <MarkdownBlock source={block.source} numPassages={numPassages} grounding={within(grounded, block)} />
    </BlockStart>
  ));
}

interface BlockProps {
  source: string;
  numPassages: number;
  grounding: Grounding;
}

const MarkdownBlock = memo(
  function MarkdownBlock({ source, ...marks }: BlockProps) {
    const [isFormatted, setFormatted] = useState(false);
    const mathematics = useMathematics(source);
    if (source.length > LONGEST_BLOCK && !isFormatted) {
      return (
        <div className="md-long">
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what is long is scrolled by keyboard too */}
          <pre dir="auto" tabIndex={0}>
            {source}
          </pre>
          <button type="button" className="button small" onClick={() => setFormatted(true)}>
            Format this long part
          </button>
        </div>
      );
    }
    return (
      <div className="md-block" dir="auto">
        <ReactMarkdown
          remarkPlugins={[remarkGfm, remarkMath, remarkWithinBlocks]}
          rehypePlugins={[[rehypeMarks, marks], ...mathematics, rehypeHighlighting]}
          components={COMPONENTS}
          urlTransform={webOnly}
        >
          {source}
        </ReactMarkdown>
      </div>
    );
  },
  // A grounding is small, and made anew each time.
  (one, other) => JSON.stringify(one) === JSON.stringify(other),
);

function within({ unverified, unmarked }: Grounding, { start, source }: Block): Grounding {
  const end = start + source.length;
  const inside = unverified.filter((span) => span.start < end && span.end > start);
  const ending = unmarked.filter((sentence) => sentence.end > start && sentence.end <= end);
  if (inside.length === 0 && ending.length === 0) return UNGROUNDED;
  return {
    unverified: inside.map((span) => ({ start: span.start - start, end: span.end - start })),
    unmarked: ending.map((sentence) => ({ ...sentence, end: sentence.end - start })),
  };
}

/** Links lead to the web or nowhere; a path would lead into this server. */
export function webOnly(url: string): string {
  const safe = defaultUrlTransform(url);
  return /^(https?:\/\/|mailto:)/i.test(safe) ? safe : "";
}

const COMPONENTS: Components = {
  a: ({ href, children }) =>
    href ? (
      <a href={href} target="_blank" rel="noreferrer noopener">
        {children}
      </a>
    ) : (
      <span>{children}</span>
    ),
  // Loading it would tell its host who reads what.
  img: ({ alt }) => <span className="md-image">[image{alt ? `: ${alt}` : ""}]</span>,
  table: ({ children }) => (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a wide table is scrolled by keyboard too
    <section className="md-table" aria-label="Table" tabIndex={0}>
      <table>{children}</table>
    </section>
  ),
  pre: CodeBlock,
  input: ({ checked }) => (
    <input type="checkbox" checked={checked ?? false} disabled aria-label={checked ? "Done" : "To do"} />
  ),
  sup: ({ node, children }) => {
    const { dataMark, dataAt } = node?.properties ?? {};
    if (dataMark === undefined) return <sup>{children}</sup>;
    return <Mark number={Number(dataMark)} at={dataAt === undefined ? null : Number(dataAt)} />;
  },
  span: ({ node, children, ...others }) =>
    node?.properties.dataUnverified === undefined ? (
      <span {...others}>{children}</span>
    ) : (
      <span className="md-unverified" title="No passage supports this sentence">
        {children}
      </span>
    ),
};

function Mark({ number, at }: { number: number; at: number | null }) {
  const start = useContext(BlockStart);
  return useContext(MarkContext)(number, at === null ? null : start + at);
}

function CodeBlock({ children }: ComponentProps<"pre">) {
  const text = useRef<HTMLPreElement>(null);
  return (
    <div className="md-code" dir="ltr">
      <CopyButton label="Copy code" text={() => text.current?.textContent ?? ""} />
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: long lines are scrolled by keyboard too */}
      <pre ref={text} tabIndex={0}>
        {children}
      </pre>
    </div>
  );
}

/** Copies, and says for a moment that it did. */
export function CopyButton({ label, text }: { label: string; text(): string }) {
  const [isDone, setDone] = useState(false);
  async function copy() {
    await copyText(text());
    setDone(true);
    window.setTimeout(() => setDone(false), 1500);
  }
  return (
    <button type="button" className="icon-button" aria-label={isDone ? "Copied" : label} onClick={copy}>
      {isDone ? <Check size={16} aria-hidden /> : <Copy size={16} aria-hidden />}
    </button>
  );
}

/** The clipboard is not there on pages without TLS; what is selected can be copied anyway. */
async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
