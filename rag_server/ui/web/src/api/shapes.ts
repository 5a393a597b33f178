/** The objects of the public API that the page reads, as far as it reads them. Offsets are in Unicode characters. */

export type RetrieveKind = "dense" | "hybrid" | "lexical";
export type Scope = "ask" | "read" | "write";

export interface ServerInfo {
  version: string;
  key: { id: string | null; name: string | null; scopes: Scope[] };
  defaults: {
    retrieve: RetrieveKind;
    num_candidates: number;
    rerank: string;
    reorder: string;
    num_passages: number;
    rewrite: boolean;
  };
  retrieve: RetrieveKind[];
  rerank: string[];
  reorder: string[];
  limits: { max_file_bytes: number; max_part_bytes: number };
}

export interface Model {
  id: string;
  owned_by: string;
  rag?: { task?: string };
}

export interface Readiness {
  status: "ready" | "starting" | "shutting_down";
  missing: Record<string, string>;
}

export interface Passage {
  id: number;
  document_id: string;
  file_id: string;
  filename: string;
  title: string;
  text: string;
  start: number;
  end: number;
  place: Record<string, string | number>;
  url: string;
}

/** A passage that an answer was made from; `[n]` in the answer means the n-th of them. */
export interface Source extends Passage {
  score: number;
  rank: number;
}

/** `quote`, `start` and `end` are null where nothing in the passage supports the sentence. */
export interface Citation {
  passage_id: number;
  number: number | null;
  answer_start: number;
  answer_end: number;
  quote: string | null;
  start: number | null;
  end: number | null;
  verified: boolean;
}

export interface Sentence {
  answer_start: number;
  answer_end: number;
  verified: boolean;
}

export interface StageRank {
  rank: number;
  score: number | null;
}

export const STAGES = ["dense", "lexical", "fusion", "rerank"] as const;
export type Stage = (typeof STAGES)[number];

/** How one passage fared; `number` is its number in the prompt, `left_out` why it has none. */
export interface Candidate {
  passage_id: number;
  file_id: string;
  filename: string;
  title: string;
  start: number;
  end: number;
  place: Record<string, string | number>;
  text: string;
  url: string;
  ranks: Record<Stage, StageRank | null>;
  number: number | null;
  left_out: "rank" | "room" | null;
}

export interface Rag {
  passages?: Source[];
  num_dropped?: number;
  query?: { original: string; searched: string; rewritten: boolean; fallback: string | null };
  rerank?: { kind: string; fallback: string | null };
  cached?: string | null;
  trace?: { candidates: Candidate[] } | null;
  citations?: Citation[];
  sentences?: Sentence[];
  timings_ms?: Record<string, number>;
}

/** What a conversation asks for instead of the server's own settings. */
export interface RagOptions {
  vector_store_ids?: string[];
  retrieve?: RetrieveKind;
  num_candidates?: number;
  rerank?: string;
  reorder?: string;
  num_passages?: number;
  filters?: unknown;
  trace?: boolean;
}

export interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

export interface ChatRequest {
  model: string;
  messages: ChatMessage[];
  temperature?: number;
  rag?: RagOptions;
}

export interface VectorStore {
  id: string;
  name: string;
  created_at: number;
  usage_bytes: number;
  file_counts: { in_progress: number; completed: number; failed: number; cancelled: number; total: number };
}

export type FileState = "in_progress" | "completed" | "failed" | "cancelled";
export type Attributes = Record<string, string | number | boolean>;

export interface StoreFile {
  id: string;
  created_at: number;
  vector_store_id: string;
  status: FileState;
  usage_bytes: number;
  attributes: Attributes;
  last_error: { code: string; message: string } | null;
  rag: { filename: string; bytes_read: number; is_queued: boolean };
}

export interface List<T> {
  data: T[];
  has_more: boolean;
  last_id: string | null;
}
