/** Reads the bytes of a page in the encoding that it is in. */

const DECLARED = /<meta[^<>]+charset\s*=\s*["']?\s*([\w.:-]+)/i;
const SEARCHED_BYTES = 16_384;
const MARKS: [string, number[]][] = [
  ["utf-8", [0xef, 0xbb, 0xbf]],
  ["utf-16le", [0xff, 0xfe]],
  ["utf-16be", [0xfe, 0xff]],
];

/** By its byte order mark, its declaration, as UTF-8, or else as Western text. */
export function decodedPage(bytes: Uint8Array): string {
  const mark = MARKS.find(([, units]) => units.every((unit, index) => bytes[index] === unit));
  const head = new TextDecoder("latin1").decode(bytes.subarray(0, SEARCHED_BYTES));
  return (
    decoded(bytes, mark?.[0]) ??
    decoded(bytes, DECLARED.exec(head)?.[1]) ??
    decoded(bytes, "utf-8") ??
    western(bytes)
  );
}

function decoded(bytes: Uint8Array, encoding: string | undefined): string | null {
  if (encoding === undefined) return null;
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

function western(bytes: Uint8Array): string {
  return new TextDecoder("windows-1252").decode(bytes);
}
