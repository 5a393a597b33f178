import { memo, useRef } from "react";
import { counted, unitOffsets } from "../text";
import type { PassageText, Range } from "./api";
import { type Marking, useScrollToMark } from "./marking";
import { blocksOf, earlier, later, type Piece } from "./windows";

interface TextViewProps {
  text: PassageText;
  passage: Range;
  marking: Marking;
  /** Shows another stretch; null: the one around the passage. */
  onMove(range: Range | null): void;
}

/** The text as it is stored and searched, a stretch of it at a time where it is long. */
export function TextView({ text, passage, marking, onMove }: TextViewProps) {
  const top = useRef<HTMLDivElement>(null);
  useScrollToMark(top, `${text.start} ${marking.start} ${marking.end}`);
  const before = earlier(text);
  const after = later(text, text.characters);
  const isAway = marking.end <= text.start || marking.start >= text.end;
  return (
    <div className="doc-text" ref={top}>
      {before && <Step label="Earlier text" onClick={() => onMove(before)} />}
      {isAway && <Step label="Back to the passage" onClick={() => onMove(null)} />}
      <Blocks
        text={text.text}
        offset={text.start}
        passageStart={passage.start}
        passageEnd={passage.end}
        markStart={marking.start}
        markEnd={marking.end}
      />
      {after && <Step label="Later text" onClick={() => onMove(after)} />}
      {(before || after) && (
        <p className="muted small">
          Characters {(text.start + 1).toLocaleString("en")} to {text.end.toLocaleString("en")} of{" "}
          {counted(text.characters, "character")}
        </p>
      )}
    </div>
  );
}

function Step({ label, onClick }: { label: string; onClick(): void }) {
  return (
    <button type="button" className="button doc-step" onClick={onClick}>
      {label}
    </button>
  );
}

interface BlocksProps {
  text: string;
  offset: number;
  passageStart: number;
  passageEnd: number;
  markStart: number;
  markEnd: number;
}

/** Plain numbers, so that it is not done again for the same stretch. */
const Blocks = memo(function Blocks({ text, offset, ...ends }: BlocksProps) {
  const unit = unitOffsets(text);
  const span = (start: number, end: number) => ({
    start: unit(Math.max(0, start - offset)),
    end: end <= offset ? 0 : unit(end - offset),
  });
  const blocks = blocksOf(text, span(ends.passageStart, ends.passageEnd), span(ends.markStart, ends.markEnd));
  return blocks.map((pieces, index) => (
    <div className="doc-block" dir="auto" key={index}>
      {pieces.map(drawn)}
    </div>
  ));
});

function drawn({ text, isPassage, isMarked }: Piece, index: number) {
  if (isMarked) return <mark key={index}>{text}</mark>;
  if (!isPassage) return text;
  return (
    <span className="doc-passage" key={index}>
      {text}
    </span>
  );
}
