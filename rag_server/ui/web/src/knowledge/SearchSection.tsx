import { Search } from "lucide-react";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { type Hit, searchStore } from "../api/stores";
import { documentPanel } from "../documents/panel";
import { counted, messageOf, placeName } from "../text";
import { Problem } from "./CollectionDialogs";
import { marked } from "./marking";

type Outcome =
  | { kind: "none" }
  | { kind: "searching" }
  | { kind: "found"; query: string; hits: Hit[] }
  | { kind: "failed"; problem: string };

/** Finds passages of a collection, without a question to a model. */
export function SearchSection({ storeId }: { storeId: string }) {
  const [query, setQuery] = useState("");
  const { outcome, search } = useSearch(storeId);
  function submit(event: FormEvent) {
    event.preventDefault();
    search(query.trim());
  }
  return (
    <section className="kn-search" aria-label="Search in this collection">
      {/* biome-ignore lint/a11y/useSemanticElements: <search> is not known to all browsers that the page is for */}
      <form role="search" className="kn-search-form" onSubmit={submit}>
        <input
          className="input"
          type="search"
          dir="auto"
          aria-label="Search in this collection"
          placeholder="Search in this collection"
          value={query}
          onChange={(event) => setQuery(event.target.value)}
        />
        <button type="submit" className="button">
          <Search size={16} aria-hidden />
          Search
        </button>
      </form>
      <p role="status" className="small muted kn-live">
        {outcome.kind === "searching" && "Searching…"}
        {outcome.kind === "found" && foundInWords(outcome.hits.length)}
      </p>
      <Problem problem={outcome.kind === "failed" ? outcome.problem : null} />
      {outcome.kind === "found" && outcome.hits.length > 0 && (
        <ol className="kn-hits">
          {outcome.hits.map((hit) => (
            <HitRow key={hit.rag.passage_id} hit={hit} query={outcome.query} />
          ))}
        </ol>
      )}
    </section>
  );
}

function foundInWords(count: number): string {
  return count === 0
    ? "Nothing was found. Try other words, or wait until all files are read."
    : counted(count, "passage");
}

function useSearch(storeId: string) {
  const [outcome, setOutcome] = useState<Outcome>({ kind: "none" });
  const running = useRef<AbortController | null>(null);
  useEffect(() => () => running.current?.abort(), []);
  async function search(query: string): Promise<void> {
    running.current?.abort();
    running.current = new AbortController();
    const { signal } = running.current;
    if (query === "") {
      setOutcome({ kind: "none" });
      return;
    }
    setOutcome({ kind: "searching" });
    try {
      const hits = await searchStore(storeId, query, signal);
      if (!signal.aborted) setOutcome({ kind: "found", query, hits });
    } catch (error) {
      if (!signal.aborted) setOutcome({ kind: "failed", problem: messageOf(error) });
    }
  }
  return { outcome, search };
}

function HitRow({ hit, query }: { hit: Hit; query: string }) {
  const text = hit.content.map((part) => part.text).join("\n");
  return (
    <li>
      <button
        type="button"
        className="kn-hit"
        onClick={() => documentPanel.getState().open({ passageId: hit.rag.passage_id, quote: null })}
      >
        <span className="kn-hit-head">
          <bdi className="kn-name">{hit.filename}</bdi>
          <bdi className="muted small">{placeName(hit.rag.place)}</bdi>
        </span>
        <span className="kn-hit-text small" dir="auto">
          <Marked text={text} query={query} />
        </span>
      </button>
    </li>
  );
}

function Marked({ text, query }: { text: string; query: string }) {
  let offset = 0;
  return marked(text, query).map((piece) => {
    const key = offset;
    offset += piece.text.length;
    return piece.isMarked ? <mark key={key}>{piece.text}</mark> : <span key={key}>{piece.text}</span>;
  });
}
