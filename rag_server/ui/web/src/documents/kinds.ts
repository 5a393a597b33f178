/** In which ways a document can be shown. */

export type Kind = "pdf" | "html" | "markdown";

const KINDS: Record<string, Kind> = {
  pdf: "pdf",
  html: "html",
  htm: "html",
  xhtml: "html",
  md: "markdown",
  markdown: "markdown",
};

/** Longer ones would hold up the page while they are laid out. */
export const MAX_CHARACTERS = 300_000;
/** Of markup, of which most is not text. */
export const MAX_HTML_BYTES = 1_500_000;

/** null: there is nothing but its text. */
export function kindOf(filename: string): Kind | null {
  const suffix = /\.([^.]+)$/.exec(filename)?.[1]?.toLowerCase() ?? "";
  return KINDS[suffix] ?? null;
}

export function isTooLong(kind: Kind | null, characters: number): boolean {
  return (kind === "html" || kind === "markdown") && characters > MAX_CHARACTERS;
}

/** In one paragraph; what time they take to be read goes with their square. */
const MAX_MARKERS = 2_000;

/** Whether reading the Markdown would hold up the page, as no document does that is written to be read. */
export function isTangled(source: string): boolean {
  return source
    .split(/\n\s*\n/)
    .some((paragraph) => (paragraph.match(/[*_~$`>[\]]/g)?.length ?? 0) > MAX_MARKERS);
}
