/** What collections and files are called and how they are, in words. */

import type { FileState, StoreFile, VectorStore } from "../api/shapes";
import { bytes, counted } from "../text";
import { percentRead } from "./file-list";

export function storeName({ name }: Pick<VectorStore, "name">): string {
  return name === "" ? "Collection without a name" : name;
}

export function sizeOf({ file_counts, usage_bytes }: VectorStore): string {
  return `${counted(file_counts.total, "file")} · ${bytes(usage_bytes)}`;
}

/** What a state is called where files are chosen by it. */
export const STATE_NAMES: Record<FileState, string> = {
  in_progress: "Being read",
  completed: "Ready",
  failed: "Failed",
  cancelled: "Cancelled",
};

export function stateName(file: StoreFile): string {
  if (file.status !== "in_progress") return STATE_NAMES[file.status];
  if (file.rag.is_queued) return "Waiting";
  const percent = percentRead(file);
  return percent === null ? "Being read" : `Being read, ${percent} %`;
}
