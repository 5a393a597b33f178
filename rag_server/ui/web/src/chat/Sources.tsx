import * as Ariakit from "@ariakit/react";
import { ChevronDown } from "lucide-react";
import type { ReactNode } from "react";
import { type Candidate, type Citation, type Rag, type Source, STAGES, type StageRank } from "../api/shapes";
import { documentPanel } from "../documents/panel";
import { counted, placeName } from "../text";
import { quoteOf } from "./SourceMarks";

/** Under an answer: its passages with their quotes, and how they were found. */
export function Sources({ rag, citations }: { rag: Rag; citations: readonly Citation[] }) {
  const sources = rag.passages ?? [];
  if (sources.length === 0) return null;
  return (
    <div className="chat-sources">
      <Folded title={`Sources (${sources.length})`}>
        <ol className="chat-source-list">
          {sources.map((source) => (
            <SourceItem key={source.id} source={source} citations={citations} />
          ))}
        </ol>
      </Folded>
      <Folded title="How the passages were found">
        <FoundTable rag={rag} />
      </Folded>
    </div>
  );
}

function Folded({ title, children }: { title: string; children: ReactNode }) {
  const disclosure = Ariakit.useDisclosureStore();
  const isOpen = Ariakit.useStoreState(disclosure, "open");
  return (
    <div>
      <Ariakit.Disclosure store={disclosure} className="chat-fold">
        <ChevronDown size={16} aria-hidden />
        {title}
      </Ariakit.Disclosure>
      <Ariakit.DisclosureContent store={disclosure}>{isOpen && children}</Ariakit.DisclosureContent>
    </div>
  );
}

function SourceItem({ source, citations }: { source: Source; citations: readonly Citation[] }) {
  const place = placeName(source.place);
  const ofSource = citations.filter(({ passage_id, quote }) => passage_id === source.id && quote !== null);
  const quotes = [...new Map(ofSource.map((citation) => [citation.quote, citation])).values()];
  const first = quotes[0] ?? null;
  return (
    <li>
      <button
        type="button"
        className="chat-link"
        onClick={() => documentPanel.getState().open({ passageId: source.id, quote: quoteOf(first) })}
      >
        <span dir="auto">{source.title || source.filename}</span>
      </button>{" "}
      <span className="muted small">
        {source.filename}
        {place && ` · ${place}`}
      </span>
      {quotes.map((citation) => (
        <blockquote key={citation.quote} dir="auto">
          <mark>{citation.quote}</mark>
        </blockquote>
      ))}
      {first === null && (
        <p className="muted small chat-snippet" dir="auto">
          {source.text}
        </p>
      )}
    </li>
  );
}

const STAGE_NAMES = { dense: "Dense", lexical: "Lexical", fusion: "Fusion", rerank: "Rerank" };

function FoundTable({ rag }: { rag: Rag }) {
  const candidates = rag.trace?.candidates ?? [];
  const stages = STAGES.filter((stage) => candidates.some(({ ranks }) => ranks[stage] !== null));
  return (
    <>
      <Searched rag={rag} />
      {candidates.length > 0 && (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: a wide table is scrolled by keyboard too
        <section className="chat-found" aria-label="How the passages were found" tabIndex={0}>
          <table>
            <thead>
              <tr>
                <th scope="col">Passage</th>
                {stages.map((stage) => (
                  <th scope="col" key={stage}>
                    {STAGE_NAMES[stage]}
                  </th>
                ))}
                <th scope="col">In the prompt</th>
              </tr>
            </thead>
            <tbody>
              {candidates.map((candidate) => (
                <tr key={candidate.passage_id} data-left-out={candidate.left_out ?? undefined}>
                  <th scope="row">
                    <CandidateLink candidate={candidate} />
                  </th>
                  {stages.map((stage) => (
                    <td key={stage}>{ranked(candidate.ranks[stage])}</td>
                  ))}
                  <td>{inPrompt(candidate)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
      <Timings timings={rag.timings_ms ?? {}} />
    </>
  );
}

function CandidateLink({ candidate }: { candidate: Candidate }) {
  return (
    <button
      type="button"
      className="chat-link"
      title={candidate.text}
      onClick={() => documentPanel.getState().open({ passageId: candidate.passage_id, quote: null })}
    >
      <span dir="auto">{candidate.title || candidate.filename}</span>
    </button>
  );
}

/** A rank, with the score where the stage has real ones. */
function ranked(stage: StageRank | null): ReactNode {
  if (stage === null) return <span className="muted">–</span>;
  return (
    <>
      {stage.rank}
      {stage.score !== null && <span className="muted small"> ({stage.score.toPrecision(3)})</span>}
    </>
  );
}

function inPrompt({ number, left_out }: Candidate): string {
  if (number !== null) return `[${number}]`;
  return left_out === "room" ? "no room" : "not among the best";
}

function Searched({ rag }: { rag: Rag }) {
  const { query, rerank, cached } = rag;
  return (
    <ul className="small chat-facts">
      {query?.rewritten && <li>Searched for: “{query.searched}”</li>}
      {query?.fallback && <li>The question was not rewritten: {query.fallback}</li>}
      {rerank?.fallback && <li>The reranker did not do its work: {rerank.fallback}</li>}
      {cached && <li>The answer was remembered from an earlier question ({cached}).</li>}
      {(rag.num_dropped ?? 0) > 0 && (
        <li>{counted(rag.num_dropped ?? 0, "passage")} had no room in the prompt.</li>
      )}
    </ul>
  );
}

function Timings({ timings }: { timings: Record<string, number> }) {
  const stages = Object.entries(timings);
  if (stages.length === 0) return null;
  const longest = Math.max(...stages.map(([, ms]) => ms), 1);
  return (
    <dl className="chat-timings small" aria-label="Time per stage">
      {stages.map(([stage, ms]) => (
        <div key={stage}>
          <dt>{stage}</dt>
          <dd>
            <span className="chat-bar" style={{ inlineSize: `${(100 * ms) / longest}%` }} aria-hidden />
            <span>{ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms</span>
          </dd>
        </div>
      ))}
    </dl>
  );
}
