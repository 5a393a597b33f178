/** What a conversation is asked with, and the request that comes of it. */

import type { ChatRequest, Model, RagOptions } from "../api/shapes";
import { messagesOf, type Turn } from "./tree";

const COLLECTION_PREFIX = "rag/";

export interface ConversationSettings {
  /** The engine's model; null means the server's default. */
  engine: string | null;
  /** Names of the collections that answers come from; none means the model alone. */
  collections: string[];
  /** What is left out is as the server's settings say. */
  options: Pick<
    RagOptions,
    "retrieve" | "num_candidates" | "rerank" | "reorder" | "num_passages" | "filters"
  >;
  temperature: number | null;
}

export const NO_SETTINGS: ConversationSettings = {
  engine: null,
  collections: [],
  options: {},
  temperature: null,
};

export function collectionNames(models: readonly Model[]): string[] {
  return models
    .filter(({ id }) => id.startsWith(COLLECTION_PREFIX))
    .map(({ id }) => id.slice(COLLECTION_PREFIX.length));
}

export function engineModels(models: readonly Model[]): string[] {
  return models
    .filter(({ id, rag }) => !id.startsWith(COLLECTION_PREFIX) && rag?.task !== "embed")
    .map(({ id }) => id);
}

/** Returns the settings of a first conversation: the first collection there is. */
export function firstSettings(models: readonly Model[]): ConversationSettings {
  return { ...NO_SETTINGS, collections: collectionNames(models).slice(0, 1) };
}

/** Returns who answers, as it is shown. */
export function answererName({ engine, collections }: ConversationSettings): string {
  if (collections.length === 0) return engine ?? "model";
  return engine === null ? collections.join(", ") : `${collections.join(", ")} · ${engine}`;
}

/** Returns the request for an answer to the last of the turns; `engines` are the models that there are. */
export function requestFor(
  settings: ConversationSettings,
  turns: readonly Turn[],
  engines: readonly string[],
): ChatRequest {
  const { engine, collections, options, temperature } = settings;
  const request: ChatRequest = {
    model:
      engine ??
      (collections.length > 0 ? `${COLLECTION_PREFIX}${collections[0]}` : (engines[0] ?? "default")),
    messages: messagesOf(turns),
  };
  if (temperature !== null) request.temperature = temperature;
  if (collections.length > 0) request.rag = { ...options, vector_store_ids: collections, trace: true };
  return request;
}
