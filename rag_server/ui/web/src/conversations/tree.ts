/** A conversation as a tree: asking again or editing adds a branch, and nothing that was said is lost. */

import type { Rag } from "../api/shapes";

export type AnswerState = "streaming" | "complete" | "stopped" | "interrupted" | "failed";

interface BaseTurn {
  id: string;
  /** The turn before; null at the beginning. */
  parent: string | null;
  content: string;
  createdAt: number;
}

export interface QuestionTurn extends BaseTurn {
  role: "user";
}

export interface AnswerTurn extends BaseTurn {
  role: "assistant";
  model: string;
  state: AnswerState;
  /** Why it failed or broke off. */
  error: string | null;
  /** In seconds; when the server is to be asked again, if it said so. */
  retryAfterS: number | null;
  finishReason: string | null;
  rag: Rag | null;
}

export type Turn = QuestionTurn | AnswerTurn;

export interface Tree {
  turns: Record<string, Turn>;
  /** The last turn of the branch that is shown. */
  head: string | null;
}

export const EMPTY: Tree = { turns: {}, head: null };

/** Returns the turns from the beginning to `head`. */
export function branch(tree: Tree): Turn[] {
  const path: Turn[] = [];
  let id = tree.head;
  while (id !== null) {
    const turn: Turn | undefined = tree.turns[id];
    if (turn === undefined) break;
    path.push(turn);
    id = turn.parent;
  }
  return path.reverse();
}

/** Returns the turns that stand in the place of this one, itself among them, the oldest first. */
export function siblings(tree: Tree, turn: Turn): Turn[] {
  return Object.values(tree.turns)
    .filter(({ parent }) => parent === turn.parent)
    .sort((one, other) => one.createdAt - other.createdAt);
}

/** Adds a turn, or changes the one of its id; a new one becomes the head. */
export function put(tree: Tree, turn: Turn): Tree {
  const isNew = !(turn.id in tree.turns);
  return { turns: { ...tree.turns, [turn.id]: turn }, head: isNew ? turn.id : tree.head };
}

/** Shows the branch through that turn: to its newest end. */
export function show(tree: Tree, turnId: string): Tree {
  let head = turnId;
  for (;;) {
    const children = Object.values(tree.turns).filter(({ parent }) => parent === head);
    if (children.length === 0) return { ...tree, head };
    head = children.reduce((newest, child) => (child.createdAt >= newest.createdAt ? child : newest)).id;
  }
}

/** Returns what the engine is told: an answer without a word is left out with its question's next attempt in mind. */
export function messagesOf(turns: readonly Turn[]): { role: "user" | "assistant"; content: string }[] {
  return turns
    .filter(({ role, content }) => role === "user" || content !== "")
    .map(({ role, content }) => ({ role, content }));
}

/** Returns whether a turn holds the text, which is in lower case, whatever its own case. */
export function holds({ turns }: Tree, wanted: string): boolean {
  return Object.values(turns).some(({ content }) => content.toLocaleLowerCase().includes(wanted));
}

/** Returns a name for a conversation from its first question: a line of at most 60 characters. */
export function titleOf(question: string): string {
  const line = question.trim().split("\n")[0]?.trim() ?? "";
  const characters = [...line];
  return characters.length > 60 ? `${characters.slice(0, 59).join("")}…` : line || "New conversation";
}
