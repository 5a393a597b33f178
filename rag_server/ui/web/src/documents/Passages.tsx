import { Fragment, useEffect, useRef } from "react";
import type { Passage } from "../api/shapes";
import { placeName } from "../text";
import type { PassageList } from "./around";
import { Failed, Loading } from "./Notices";

const SHOWN_CHARACTERS = 240;

interface PassagesProps {
  passages: PassageList;
  currentId: number;
  onMove(passageId: number): void;
}

/** The pieces that a file was cut into; the rows of a file of rows are documents of their own. */
export function Passages({ passages: { list, error, retry, grow }, currentId, onMove }: PassagesProps) {
  const top = useRef<HTMLDivElement>(null);
  const isReady = list !== null;
  useEffect(() => {
    if (isReady)
      top.current?.querySelector(`[data-passage="${currentId}"]`)?.scrollIntoView({ block: "center" });
  }, [isReady, currentId]);
  if (list === null) return error ? <Failed error={error} onRetry={retry} /> : <Loading what="passages" />;
  const isOfSeveral = new Set(list.passages.map(({ document_id }) => document_id)).size > 1;
  return (
    <div className="doc-passages" ref={top}>
      {list.hasEarlier && <More label="Earlier passages" onClick={() => grow("desc")} />}
      {list.passages.map((passage, index) => {
        const isNew = passage.document_id !== list.passages[index - 1]?.document_id;
        return (
          <Fragment key={passage.id}>
            {isOfSeveral && isNew && (
              <p className="doc-row muted small" dir="auto">
                {passage.title || passage.document_id}
              </p>
            )}
            <PassageButton passage={passage} isCurrent={passage.id === currentId} onMove={onMove} />
          </Fragment>
        );
      })}
      {list.hasLater && <More label="Later passages" onClick={() => grow("asc")} />}
      {error !== null && <Failed error={error} onRetry={retry} />}
    </div>
  );
}

function More({ label, onClick }: { label: string; onClick(): void }) {
  return (
    <button type="button" className="button doc-step" onClick={onClick}>
      {label}
    </button>
  );
}

interface PassageButtonProps {
  passage: Passage;
  isCurrent: boolean;
  onMove(passageId: number): void;
}

function PassageButton({ passage, isCurrent, onMove }: PassageButtonProps) {
  const place = placeName(passage.place);
  const isLong = passage.text.length > SHOWN_CHARACTERS;
  return (
    <button
      type="button"
      className="doc-passage-button"
      data-passage={passage.id}
      aria-current={isCurrent}
      onClick={() => onMove(passage.id)}
    >
      {place !== "" && <span className="muted small">{place}</span>}
      <span dir="auto">
        {passage.text.slice(0, SHOWN_CHARACTERS)}
        {isLong && "…"}
      </span>
    </button>
  );
}
