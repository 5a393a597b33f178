import { ChevronLeft, ChevronRight } from "lucide-react";

/** Which of the turns that stand in one place is shown. */
export interface Versions {
  ids: string[];
  index: number;
  onShow(turnId: string): void;
}

/** Leads through the versions of a question or answer; nothing where there is one. */
export function VersionsOf({ versions: { ids, index, onShow } }: { versions: Versions }) {
  const [before, after] = [ids[index - 1], ids[index + 1]];
  if (ids.length < 2) return null;
  return (
    <span className="chat-versions">
      <button
        type="button"
        className="icon-button"
        aria-label="Previous version"
        disabled={before === undefined}
        onClick={() => before && onShow(before)}
      >
        <ChevronLeft size={16} aria-hidden />
      </button>
      <span className="small">
        {index + 1} / {ids.length}
      </span>
      <button
        type="button"
        className="icon-button"
        aria-label="Next version"
        disabled={after === undefined}
        onClick={() => after && onShow(after)}
      >
        <ChevronRight size={16} aria-hidden />
      </button>
    </span>
  );
}
