/** The files on their way to the server: three at once, each on its own whatever happens to the others. */

import { create, type StoreApi, type UseBoundStore } from "zustand";
import type { Sending } from "../api/uploads";
import { bytes } from "../text";
import { distinct, type Found } from "./dropping";
import { type Clock, patiently } from "./patience";

export const MAX_AT_ONCE = 3;

/** "paused": the server is busy, it goes on by itself. "refused": it was never sent, trying again does not help. */
export type UploadState = "waiting" | "sending" | "paused" | "done" | "failed" | "refused";

export interface UploadItem {
  id: number;
  storeId: string;
  name: string;
  path: string | null;
  size: number;
  sent: number;
  state: UploadState;
  /** Why it failed or was refused. */
  reason: string | null;
  /** When it goes on, in the clock's milliseconds. */
  resumesAt: number | null;
}

export interface UploadLimits {
  max_file_bytes: number;
  max_part_bytes: number;
}

export interface Transport {
  /** Stores a file on the server and returns its id. */
  send(file: File, sending: Sending): Promise<string>;
  attach(storeId: string, fileId: string, path: string | null, signal: AbortSignal): Promise<void>;
  /** Removes a stored file that is in no collection. */
  discard(fileId: string): Promise<void>;
}

export interface UploadQueue {
  items: UploadItem[];
  add(storeId: string, found: readonly Found[], limits: UploadLimits): void;
  /** Stops an upload, or forgets one that is over. */
  remove(id: number): void;
  removeAll(storeId: string): void;
  retry(id: number): void;
  retryFailed(storeId: string): void;
}

/** What is kept of an upload beside what is shown; `fileId` is set once the file is stored. */
interface Job {
  file: File;
  maxPartBytes: number;
  fileId: string | null;
  running: AbortController | null;
}

const OVER: readonly UploadState[] = ["done", "failed", "refused"];

export function isUnderWay({ state }: UploadItem): boolean {
  return !OVER.includes(state);
}

export function createUploadQueue(transport: Transport, clock: Clock): UseBoundStore<StoreApi<UploadQueue>> {
  const jobs = new Map<number, Job>();
  const waiting: number[] = [];
  let numRunning = 0;
  let lastId = 0;

  return create<UploadQueue>((set, get) => {
    function change(id: number, changed: Partial<UploadItem>): void {
      set(({ items }) => ({ items: items.map((item) => (item.id === id ? { ...item, ...changed } : item)) }));
    }

    function startNext(): void {
      while (numRunning < MAX_AT_ONCE) {
        const id = waiting.shift();
        if (id === undefined) return;
        const item = get().items.find((one) => one.id === id);
        const job = jobs.get(id);
        if (item !== undefined && job !== undefined) void run(item, job);
      }
    }

    async function run(item: UploadItem, job: Job): Promise<void> {
      const running = new AbortController();
      job.running = running;
      numRunning += 1;
      change(item.id, { state: "sending", reason: null });
      try {
        await send(item, job, running.signal);
        jobs.delete(item.id);
        change(item.id, { state: "done", sent: item.size });
      } catch (error) {
        job.running = null;
        if (running.signal.aborted) drop(job);
        else change(item.id, { state: "failed", reason: reasonOf(error), resumesAt: null });
      }
      numRunning -= 1;
      startNext();
    }

    async function send(item: UploadItem, job: Job, signal: AbortSignal): Promise<void> {
      const wait = <T>(attempt: () => Promise<T>) =>
        patiently(attempt, clock, signal, (until) =>
          change(item.id, { state: until === null ? "sending" : "paused", resumesAt: until }),
        );
      job.fileId ??= await transport.send(job.file, {
        signal,
        maxPartBytes: job.maxPartBytes,
        onProgress: (sent) => change(item.id, { sent: Math.min(sent, item.size) }),
        patiently: wait,
      });
      const { fileId } = job;
      await wait(() => transport.attach(item.storeId, fileId, item.path, signal));
    }

    /** A file that was stored for a collection which it never came into is nobody's. */
    function drop(job: Job): void {
      if (job.fileId !== null) transport.discard(job.fileId).catch(() => undefined);
    }

    function enqueue(ids: readonly number[]): void {
      waiting.push(...ids);
      startNext();
    }

    function removeWhere(isRemoved: (item: UploadItem) => boolean): void {
      const removed = get().items.filter(isRemoved);
      set(({ items }) => ({ items: items.filter((item) => !isRemoved(item)) }));
      for (const { id } of removed) {
        const job = jobs.get(id);
        jobs.delete(id);
        if (job?.running) job.running.abort();
        else if (job !== undefined) drop(job);
      }
    }

    return {
      items: [],

      add: (storeId, found, limits) => {
        const items = distinct(found).map(({ file, path }) => {
          const item = newItem(++lastId, storeId, file, path, limits.max_file_bytes);
          if (item.state === "waiting")
            jobs.set(item.id, { file, maxPartBytes: limits.max_part_bytes, fileId: null, running: null });
          return item;
        });
        set((before) => ({ items: [...remaining(before.items), ...items] }));
        enqueue(items.filter(({ state }) => state === "waiting").map(({ id }) => id));
      },

      remove: (id) => removeWhere((item) => item.id === id),
      removeAll: (storeId) => removeWhere((item) => item.storeId === storeId),

      retry: (id) => {
        const item = get().items.find((one) => one.id === id);
        if (item?.state !== "failed") return;
        const isStored = jobs.get(id)?.fileId !== null;
        change(id, { state: "waiting", reason: null, sent: isStored ? item.size : 0 });
        enqueue([id]);
      },

      retryFailed: (storeId) => {
        for (const item of get().items)
          if (item.storeId === storeId && item.state === "failed") get().retry(item.id);
      },
    };
  });
}

function newItem(id: number, storeId: string, file: File, path: string | null, maxBytes: number): UploadItem {
  const isTooLarge = file.size > maxBytes;
  return {
    id,
    storeId,
    name: file.name,
    path,
    size: file.size,
    sent: 0,
    state: isTooLarge ? "refused" : "waiting",
    reason: isTooLarge
      ? `Too large: it has ${bytes(file.size)}, this server takes ${bytes(maxBytes)}.`
      : null,
    resumesAt: null,
  };
}

/** What is done is counted until all of it is over. */
function remaining(items: UploadItem[]): UploadItem[] {
  return items.some(isUnderWay) ? items : items.filter(({ state }) => state !== "done");
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : "It could not be sent.";
}

/** The uploads of one collection, counted. */
export interface UploadSummary {
  total: number;
  underWay: number;
  done: number;
  failed: number;
  refused: number;
  sentBytes: number;
  totalBytes: number;
}

export function summaryOf(items: readonly UploadItem[]): UploadSummary {
  const sendable = items.filter(({ state }) => state !== "refused");
  const count = (wanted: UploadState) => items.filter(({ state }) => state === wanted).length;
  const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0);
  return {
    total: items.length,
    underWay: items.filter(isUnderWay).length,
    done: count("done"),
    failed: count("failed"),
    refused: count("refused"),
    sentBytes: sum(sendable.map(({ sent }) => sent)),
    totalBytes: sum(sendable.map(({ size }) => size)),
  };
}
