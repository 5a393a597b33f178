/** Conversations as files: Markdown for people, JSON for programs. */

import type { Citation, Source } from "../api/shapes";
import { placeName } from "../text";
import type { Conversation } from "./database";
import { type AnswerTurn, branch } from "./tree";

/** Returns the branch that is shown, with the sources of each answer. */
export function asMarkdown(conversation: Conversation): string {
  const parts = [`# ${conversation.title}`];
  for (const turn of branch(conversation.tree)) {
    if (turn.role === "user") parts.push("## Question", turn.content);
    else parts.push(`## Answer (${turn.model})`, turn.content, ...sourceLines(turn));
  }
  return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

/** Returns everything that is known of the conversation, all branches included. */
export function asJson(conversation: Conversation): string {
  const { title, createdAt, updatedAt, settings, tree } = conversation;
  return `${JSON.stringify({ title, created_at: createdAt, updated_at: updatedAt, settings, ...tree }, null, 2)}\n`;
}

function sourceLines(turn: AnswerTurn): string[] {
  const sources = turn.rag?.passages ?? [];
  if (sources.length === 0) return [];
  const lines = sources.map((source, index) => sourceLine(source, index + 1, turn.rag?.citations ?? []));
  return [`### Sources\n\n${lines.join("\n")}`];
}

function sourceLine(source: Source, number: number, citations: Citation[]): string {
  const place = placeName(source.place);
  const quotes = citations.filter(({ passage_id, quote }) => passage_id === source.id && quote !== null);
  const first = `${number}. ${source.filename}${place ? ` (${place})` : ""}, <${source.url}>`;
  return [first, ...quotes.map(({ quote }) => `   > ${quote?.replaceAll("\n", " ")}`)].join("\n");
}

/** Returns a name for the file that every system takes. */
export function fileName(title: string, ending: string): string {
  const plain = title
    .normalize("NFKD")
    .replace(/[^\p{L}\p{N} _-]/gu, "")
    .trim()
    .replace(/\s+/g, "-")
    .slice(0, 60);
  return `${plain || "conversation"}.${ending}`;
}
