/** Finds the words of a query in a text, whatever their case and diacritics. */

export interface Piece {
  text: string;
  isMarked: boolean;
}

const WORD = /[\p{L}\p{N}\p{M}]+/gu;
const INSIDE_WORD = /[\p{L}\p{N}\p{M}]/u;
const WITHOUT_SPACES =
  /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}]/u;
/** Where articles and prepositions are joined to the word. */
const WITH_PREFIXES = /[\p{sc=Arabic}\p{sc=Hebrew}]/u;
/** Shorter words stand for themselves only, longer ones for words that they are a part of too. */
const MIN_PART = 3;
/** Those of Latin, Greek and Cyrillic, Hebrew, and Arabic; of other scripts they are vowels. */
const DIACRITICS = /[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u065f\u0670]/gu;

/** Cuts a text into pieces that are, and that are not, words of the query. Together they are the text. */
export function marked(text: string, query: string): Piece[] {
  const words = new Set(folded(query).text.match(WORD) ?? []);
  const { text: plain, origins } = folded(text);
  const stretches = [...words]
    .flatMap((word) => places(plain, word))
    .sort((a, b) => a[0] - b[0] || b[1] - a[1]);
  const pieces: Piece[] = [];
  let done = 0;
  for (const [from, to] of stretches) {
    const start = Math.max(done, origins[from] ?? text.length);
    const end = endOf(origins, to, text.length);
    if (end <= start) continue;
    if (start > done) pieces.push({ text: text.slice(done, start), isMarked: false });
    pieces.push({ text: text.slice(start, end), isMarked: true });
    done = end;
  }
  if (done < text.length) pieces.push({ text: text.slice(done), isMarked: false });
  return pieces;
}

/** Where a word stands in a text, both folded. */
function places(text: string, word: string): [number, number][] {
  const found: [number, number][] = [];
  const isLong = word.length >= MIN_PART;
  const isAnywhere = WITHOUT_SPACES.test(word) || (isLong && WITH_PREFIXES.test(word));
  for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + 1)) {
    const end = at + word.length;
    const begins = !INSIDE_WORD.test(before(text, at));
    const ends = !INSIDE_WORD.test(String.fromCodePoint(text.codePointAt(end) ?? 0x20));
    if (isAnywhere || (begins && (ends || isLong))) found.push([at, end]);
  }
  return found;
}

/** The character before an offset. */
function before(text: string, offset: number): string {
  return [...text.slice(Math.max(0, offset - 2), offset)].at(-1) ?? " ";
}

/** A text without case and diacritics, and for each of its units where in the text it comes from. */
function folded(text: string): { text: string; origins: number[] } {
  const parts: string[] = [];
  const origins: number[] = [];
  let offset = 0;
  for (const character of text) {
    const plain = fold(character);
    parts.push(plain);
    for (let unit = 0; unit < plain.length; unit++) origins.push(offset);
    offset += character.length;
  }
  return { text: parts.join(""), origins };
}

function fold(character: string): string {
  // Most are plain already.
  if (character >= "a" && character <= "z") return character;
  return character.toLowerCase().normalize("NFKD").replace(DIACRITICS, "").replace("ς", "σ");
}

/** Where a stretch ends in the text: before the next character, with the diacritics that follow. */
function endOf(origins: readonly number[], to: number, length: number): number {
  const last = origins[to - 1];
  let next = to;
  // Characters such as ligatures are several letters, and marked as one.
  while (next < origins.length && origins[next] === last) next++;
  return origins[next] ?? length;
}
