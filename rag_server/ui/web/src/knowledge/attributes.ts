/** A file's attributes as the rows of a form, and back. */

import type { Attributes } from "../api/shapes";

export const MAX_ATTRIBUTES = 16;

export type Kind = "text" | "number" | "yes-no";

/** `value` is as it was typed; "yes" or "no" for yes-no. */
export interface Row {
  key: string;
  kind: Kind;
  value: string;
}

export function rowsOf(attributes: Attributes): Row[] {
  return Object.entries(attributes).map(([key, value]) => {
    if (typeof value === "boolean") return { key, kind: "yes-no", value: value ? "yes" : "no" };
    return { key, kind: typeof value === "number" ? "number" : "text", value: String(value) };
  });
}

/** The attributes that the rows say, or what is wrong with them. Rows without name and value do not count. */
export function attributesOf(rows: readonly Row[]): { attributes: Attributes } | { problem: string } {
  const entries = new Map<string, string | number | boolean>();
  for (const { key: typed, kind, value } of rows) {
    const key = typed.trim();
    if (key === "" && (value.trim() === "" || kind === "yes-no")) continue;
    if (key === "") return { problem: `The value “${value}” has no name.` };
    if (entries.has(key)) return { problem: `“${key}” is there twice.` };
    const parsed = parsedValue(kind, value);
    if (parsed === null) return { problem: `“${key}”: “${value}” is no number. Write it like 12.5 or -3.` };
    entries.set(key, parsed);
  }
  if (entries.size > MAX_ATTRIBUTES) return { problem: `A file may have ${MAX_ATTRIBUTES} attributes.` };
  return { attributes: Object.fromEntries(entries) };
}

/** null: it is no number. */
function parsedValue(kind: Kind, value: string): string | number | boolean | null {
  if (kind === "text") return value;
  if (kind === "yes-no") return value === "yes";
  const isNumber = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(value.trim());
  const number = Number(value);
  return isNumber && Number.isFinite(number) ? number : null;
}

/** A row with another kind, and its value as that kind has it. */
export function withKind(row: Row, kind: Kind): Row {
  const wasYesNo = row.kind === "yes-no";
  const value =
    kind === "yes-no" ? (row.value === "yes" ? "yes" : "no") : wasYesNo && kind === "number" ? "" : row.value;
  return { ...row, kind, value };
}
