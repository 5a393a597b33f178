/** The conversations of this browser: which there are, those that are open, and every change of them. */

import { create } from "zustand";
import { messageOf } from "../text";
import { type Conversation, ConversationDatabase, type ConversationHead } from "./database";
import type { ConversationSettings } from "./settings";
import { EMPTY, holds, titleOf } from "./tree";

/** While an answer streams, it is saved so often. */
const SAVE_EVERY_MS = 1000;

interface Conversations {
  owner: string | null;
  /** The latest first. */
  heads: ConversationHead[];
  /** Those that were opened since the page was loaded. */
  open: Record<string, Conversation>;
  /** Why nothing can be kept, if so; the page works without. */
  problem: string | null;
  /** The one that was deleted last, for as long as it can be brought back. */
  deleted: Conversation | null;
  load(owner: string): Promise<void>;
  find(id: string): Promise<Conversation | null>;
  create(question: string, settings: ConversationSettings): Conversation;
  /** "soon" is for what changes many times a second. */
  change(id: string, changed: (conversation: Conversation) => Conversation, kept?: "now" | "soon"): void;
  rename(id: string, title: string): Promise<void>;
  delete(id: string): Promise<void>;
  undelete(): void;
  search(text: string): Promise<ConversationHead[]>;
}

let database: Promise<ConversationDatabase> | null = null;
const timers = new Map<string, number>();

export const conversations = create<Conversations>((set, get) => ({
  owner: null,
  heads: [],
  open: {},
  problem: null,
  deleted: null,

  load: async (owner) => {
    const before = get().owner;
    if (before === owner) return;
    // What was begun before it was known whose it is, is theirs; what was another's is out of sight.
    set(({ heads, open }) =>
      before === null
        ? { owner, heads: heads.map((head) => ({ ...head, owner })), open: ownedBy(owner, open) }
        : { owner, heads: [], open: {}, deleted: null },
    );
    const kept = await withDatabase((opened) => opened.heads(owner));
    if (kept === null || get().owner !== owner) return;
    set(({ heads }) => ({ heads: latestFirst([...heads, ...kept.filter(({ id }) => !isAmong(heads, id))]) }));
    saveNow();
  },

  find: async (id) => {
    const known = get().open[id];
    if (known !== undefined) return known;
    const owner = get().owner;
    if (owner === null) return null;
    const kept = await withDatabase((opened) => opened.get(id, owner));
    if (kept !== null) set(({ open }) => ({ open: { ...open, [id]: afterReload(kept) } }));
    return get().open[id] ?? null;
  },

  create: (question, settings) => {
    const now = Date.now();
    const head = {
      id: newId(),
      owner: get().owner ?? "",
      title: titleOf(question),
      createdAt: now,
      updatedAt: now,
    };
    const conversation: Conversation = { ...head, tree: EMPTY, settings };
    set(({ open, heads }) => ({ open: { ...open, [head.id]: conversation }, heads: [head, ...heads] }));
    return conversation;
  },

  change: (id, changed, kept = "now") => {
    const before = get().open[id];
    if (before === undefined) return;
    const after = { ...changed(before), updatedAt: Date.now() };
    set(({ open }) => ({ open: { ...open, [id]: after } }));
    showHead(after);
    if (kept === "now") save(id);
    else if (!timers.has(id))
      timers.set(
        id,
        window.setTimeout(() => save(id), SAVE_EVERY_MS),
      );
  },

  rename: async (id, title) => {
    const named = title.trim();
    if (named === "" || (await get().find(id)) === null) return;
    get().change(id, (conversation) => ({ ...conversation, title: named }));
  },

  delete: async (id) => {
    const conversation = await get().find(id);
    window.clearTimeout(timers.get(id));
    set(({ open, heads }) => ({
      open: without(open, id),
      heads: heads.filter((head) => head.id !== id),
      deleted: conversation,
    }));
    await withDatabase((opened) => opened.delete(id));
  },

  undelete: () => {
    const { deleted } = get();
    if (deleted === null) return;
    set(({ open }) => ({ open: { ...open, [deleted.id]: deleted }, deleted: null }));
    showHead(deleted);
    save(deleted.id);
  },

  search: async (text) => {
    const { heads, owner } = get();
    const wanted = text.trim().toLocaleLowerCase();
    if (wanted === "" || owner === null) return heads;
    const kept = (await withDatabase((opened) => opened.containing(wanted, owner))) ?? new Set<string>();
    return get().heads.filter(({ id, title }) => {
      // What is open may be newer than what is kept.
      const latest = get().open[id];
      return (
        title.toLocaleLowerCase().includes(wanted) ||
        (latest === undefined ? kept.has(id) : holds(latest.tree, wanted))
      );
    });
  },
}));

/** Saves a conversation at once. */
function save(id: string): void {
  window.clearTimeout(timers.get(id));
  timers.delete(id);
  const { open, owner } = conversations.getState();
  const latest = open[id];
  // Before it is known whose it is, it waits.
  if (latest === undefined) return;
  if (owner === null)
    timers.set(
      id,
      window.setTimeout(() => save(id), SAVE_EVERY_MS),
    );
  else void withDatabase((opened) => opened.put(latest));
}

/** Saves what waits to be saved; the page is going away. */
export function saveNow(): void {
  for (const id of [...timers.keys()]) save(id);
}

function ownedBy(owner: string, open: Record<string, Conversation>): Record<string, Conversation> {
  return Object.fromEntries(
    Object.entries(open).map(([id, conversation]) => [id, { ...conversation, owner }]),
  );
}

/** Moves the conversation to the top of the list; while it streams, only when it is not there already. */
function showHead(conversation: Conversation): void {
  const { heads } = conversations.getState();
  const { id, owner, title, createdAt, updatedAt } = conversation;
  if (heads[0]?.id === id && heads[0].title === title) return;
  const others = heads.filter((head) => head.id !== id);
  conversations.setState({ heads: [{ id, owner, title, createdAt, updatedAt }, ...others] });
}

/** Returns null, and notes why, where the browser keeps nothing (a private window, a full disk). */
async function withDatabase<T>(use: (opened: ConversationDatabase) => Promise<T>): Promise<T | null> {
  try {
    database ??= ConversationDatabase.open();
    return await use(await database);
  } catch (error) {
    const reason = messageOf(error);
    conversations.setState({ problem: `This browser does not keep conversations: ${reason}` });
    return null;
  }
}

/** An answer that was streaming when the page went away is broken off. */
function afterReload(conversation: Conversation): Conversation {
  const turns = { ...conversation.tree.turns };
  for (const turn of Object.values(turns)) {
    if (turn.role === "assistant" && turn.state === "streaming") {
      turns[turn.id] = {
        ...turn,
        state: "interrupted",
        error: "The page was closed before the answer ended.",
      };
    }
  }
  return { ...conversation, tree: { ...conversation.tree, turns } };
}

function latestFirst(heads: ConversationHead[]): ConversationHead[] {
  return heads.sort((one, other) => other.updatedAt - one.updatedAt);
}

function isAmong(heads: ConversationHead[], id: string): boolean {
  return heads.some((head) => head.id === id);
}

function without<T>(record: Record<string, T>, key: string): Record<string, T> {
  return Object.fromEntries(Object.entries(record).filter(([name]) => name !== key));
}

/** Returns 16 random hexadecimal digits; randomUUID is not there on pages without TLS. */
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}
