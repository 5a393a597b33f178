/** Offsets and amounts as people and servers count them. */

/** Turns the server's offsets, which count characters, into those of JavaScript, which count UTF-16 units. */
export function unitOffsets(text: string): (characters: number) => number {
  // Without surrogate pairs both are the same.
  if (!/[\ud800-\udbff]/.test(text)) return (characters) => Math.min(characters, text.length);
  const starts: number[] = [];
  let unit = 0;
  for (const character of text) {
    starts.push(unit);
    unit += character.length;
  }
  return (characters) => starts[characters] ?? text.length;
}

const UNITS = ["B", "kB", "MB", "GB"];

export function bytes(count: number): string {
  const power = count < 1000 ? 0 : Math.min(Math.floor(Math.log10(count) / 3), UNITS.length - 1);
  const value = count / 1000 ** power;
  return `${value >= 100 || power === 0 ? Math.round(value) : value.toFixed(1)} ${UNITS[power]}`;
}

export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** Where in its document a passage is, such as "page 3 · Methods". */
export function placeName(place: Record<string, string | number>): string {
  return Object.entries(place)
    .map(([kind, label]) => (kind === "heading" ? String(label) : `${kind} ${label}`))
    .join(" · ");
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
