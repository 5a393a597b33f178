/** Asks in a conversation, and writes the answer into it while it comes. */

import { create } from "zustand";
import { ask } from "../api/chat";
import { ApiError, OfflineError } from "../api/http";
import type { Rag } from "../api/shapes";
import { answererName, type ConversationSettings, engineModels, requestFor } from "../conversations/settings";
import { conversations, newId } from "../conversations/store";
import { type AnswerTurn, branch, put, type QuestionTurn } from "../conversations/tree";
import { server } from "../server-state";
import { messageOf } from "../text";
import { paced } from "./pacing";

interface Running {
  /** By the id of the conversation. */
  answers: Record<string, AbortController>;
}

export const running = create<Running>(() => ({ answers: {} }));

/** Asks at the end of that turn, null at the beginning of the conversation; returns when the answer is over. */
export async function askAfter(
  conversationId: string,
  parent: string | null,
  question: string,
): Promise<void> {
  const asked: QuestionTurn = { id: newId(), parent, role: "user", content: question, createdAt: Date.now() };
  conversations.getState().change(conversationId, (conversation) => ({
    ...conversation,
    tree: put(conversation.tree, asked),
  }));
  await answer(conversationId, asked.id);
}

/** Has the question answered once more; the answers before it stay. */
export async function answer(conversationId: string, questionId: string): Promise<void> {
  const conversation = conversations.getState().open[conversationId];
  if (conversation === undefined || running.getState().answers[conversationId]) return;
  const turns = branch({ ...conversation.tree, head: questionId });
  const aborter = new AbortController();
  const begun = newAnswer(questionId, conversation.settings);
  write(conversationId, begun);
  running.setState(({ answers }) => ({ answers: { ...answers, [conversationId]: aborter } }));
  try {
    const request = requestFor(conversation.settings, turns, engineModels(server.getState().models));
    await follow(conversationId, begun, ask(request, aborter.signal));
  } catch (error) {
    end(conversationId, begun.id, ending(error, aborter.signal));
  } finally {
    running.setState(({ answers }) => {
      const { [conversationId]: _, ...others } = answers;
      return { answers: others };
    });
  }
}

export function stop(conversationId: string): void {
  running.getState().answers[conversationId]?.abort();
}

async function follow(
  conversationId: string,
  begun: AnswerTurn,
  pieces: ReturnType<typeof ask>,
): Promise<void> {
  const shown = paced((turn: AnswerTurn) => write(conversationId, turn));
  let latest = begun;
  try {
    for await (const piece of pieces) {
      latest = {
        ...latest,
        content: latest.content + piece.text,
        rag: merged(latest.rag, piece.rag),
        finishReason: piece.finishReason ?? latest.finishReason,
      };
      await shown.offer(latest);
    }
    await shown.offer({ ...latest, state: "complete" });
  } finally {
    shown.flush();
  }
}

function newAnswer(questionId: string, settings: ConversationSettings): AnswerTurn {
  return {
    id: newId(),
    parent: questionId,
    role: "assistant",
    content: "",
    createdAt: Date.now(),
    model: answererName(settings),
    state: "streaming",
    error: null,
    retryAfterS: null,
    finishReason: null,
    rag: null,
  };
}

function write(conversationId: string, turn: AnswerTurn): void {
  const kept = turn.state === "streaming" && turn.content !== "" ? "soon" : "now";
  conversations
    .getState()
    .change(conversationId, (before) => ({ ...before, tree: put(before.tree, turn) }), kept);
}

type Ending = Pick<AnswerTurn, "state" | "error" | "retryAfterS">;

function end(conversationId: string, turnId: string, how: Ending): void {
  const turn = conversations.getState().open[conversationId]?.tree.turns[turnId];
  if (turn?.role === "assistant") write(conversationId, { ...turn, ...how });
}

/** Says how an answer ended that did not come to its own end; what came of it stays. */
export function ending(error: unknown, signal: AbortSignal): Ending {
  if (signal.aborted) return { state: "stopped", error: null, retryAfterS: null };
  if (error instanceof OfflineError) {
    void server.getState().watch();
    return { state: "interrupted", error: error.message, retryAfterS: null };
  }
  if (error instanceof ApiError)
    return { state: "failed", error: error.message, retryAfterS: error.retryAfterS };
  return {
    state: "failed",
    error: messageOf(error),
    retryAfterS: null,
  };
}

function merged(known: Rag | null, more: Rag | null): Rag | null {
  return more === null ? known : { ...known, ...more };
}
