/** Asks a question and gives the answer as it comes. */

import { ApiError, OfflineError, request } from "./http";
import type { ChatRequest, Rag } from "./shapes";
import { eventData } from "./sse";

/** A piece of an answer: text, what is known of its sources, or why it ended ("stop", "length", ...). */
export interface AnswerPiece {
  text: string;
  rag: Rag | null;
  finishReason: string | null;
}

/** @throws ApiError (refused, or failed in mid-stream), OfflineError (not reached, or broken off). */
export async function* ask(body: ChatRequest, signal: AbortSignal): AsyncGenerator<AnswerPiece> {
  const response = await request("/v1/chat/completions", {
    method: "POST",
    json: { ...body, stream: true },
    signal,
  });
  if (response.body === null) throw new OfflineError();
  for await (const data of eventData(response.body)) yield pieceOf(data);
}

/** @throws ApiError The event tells of a failure, or is no JSON. */
export function pieceOf(data: string): AnswerPiece {
  let chunk: {
    error?: { message?: string; code?: string | null };
    rag?: Rag;
    choices?: { delta?: { content?: string | null }; finish_reason?: string | null }[];
  };
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new ApiError("The server sent something that is no answer.", 502);
  }
  if (chunk.error)
    throw new ApiError(chunk.error.message ?? "The answer failed.", 502, chunk.error.code ?? null);
  const choice = chunk.choices?.[0];
  return {
    text: choice?.delta?.content ?? "",
    rag: chunk.rag ?? null,
    finishReason: choice?.finish_reason ?? null,
  };
}
