/** The settings of a conversation as they stand in the fields of a form: texts, of which an empty one says nothing. */

import type { RetrieveKind } from "../api/shapes";
import type { ConversationSettings } from "../conversations/settings";

export interface Draft {
  collections: string[];
  engine: string;
  retrieve: string;
  rerank: string;
  reorder: string;
  numCandidates: string;
  numPassages: string;
  temperature: string;
  filter: string;
}

export function draftOf({ engine, collections, options, temperature }: ConversationSettings): Draft {
  return {
    collections,
    engine: engine ?? "",
    retrieve: options.retrieve ?? "",
    rerank: options.rerank ?? "",
    reorder: options.reorder ?? "",
    numCandidates: options.num_candidates?.toString() ?? "",
    numPassages: options.num_passages?.toString() ?? "",
    temperature: temperature?.toString() ?? "",
    filter: options.filters === undefined ? "" : JSON.stringify(options.filters, null, 2),
  };
}

/** Returns the settings, or what is wrong with the draft. */
export function settingsOf(draft: Draft): ConversationSettings | string {
  const numCandidates = whole(draft.numCandidates, 1000);
  const numPassages = whole(draft.numPassages, 200);
  const temperature = draft.temperature === "" ? null : Number(draft.temperature);
  if (numCandidates === null) return "Candidates must be a whole number from 1 to 1000.";
  if (numPassages === null) return "Passages must be a whole number from 1 to 200.";
  if (temperature !== null && !(temperature >= 0 && temperature <= 2))
    return "Temperature must be from 0 to 2.";
  const options: ConversationSettings["options"] = {};
  if (draft.retrieve !== "") options.retrieve = draft.retrieve as RetrieveKind;
  if (draft.rerank !== "") options.rerank = draft.rerank;
  if (draft.reorder !== "") options.reorder = draft.reorder;
  if (numCandidates !== undefined) options.num_candidates = numCandidates;
  if (numPassages !== undefined) options.num_passages = numPassages;
  if (draft.filter.trim() !== "") {
    const filters = objectOf(draft.filter);
    if (filters === null)
      return 'The filter must be a JSON object such as {"type": "eq", "key": "year", "value": 2026}.';
    options.filters = filters;
  }
  return { collections: draft.collections, engine: draft.engine || null, options, temperature };
}

/** Returns undefined for nothing, null for something else than a whole number from 1 to `max`. */
function whole(text: string, max: number): number | null | undefined {
  if (text === "") return undefined;
  const number = Number(text);
  return Number.isInteger(number) && number >= 1 && number <= max ? number : null;
}

function objectOf(text: string): object | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}
