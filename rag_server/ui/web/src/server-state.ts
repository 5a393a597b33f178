/** What is known of the server: asked for at the start, after signing in, and whenever it may have changed. */

import { create } from "zustand";
import { ApiError, OfflineError } from "./api/http";
import { models, readiness, serverInfo } from "./api/server";
import type { Model, Scope, ServerInfo, VectorStore } from "./api/shapes";
import { listStores } from "./api/stores";
import { session } from "./session";

const WATCH_EVERY_MS = 2000;

/** "unknown" until the server has answered once. */
export type Connection = "unknown" | "online" | "offline";

interface ServerState {
  info: ServerInfo | null;
  models: Model[];
  /** null while they are not known, or when the key may not list them. */
  stores: VectorStore[] | null;
  connection: Connection;
  /** What is not there yet, by name; empty when questions are answered. */
  missing: Record<string, string>;
  shuttingDown: boolean;
  refresh(): Promise<void>;
  watch(): Promise<void>;
}

export const server = create<ServerState>((set, get) => ({
  info: null,
  models: [],
  stores: null,
  connection: "unknown",
  missing: {},
  shuttingDown: false,

  refresh: async () => {
    try {
      const info = await serverInfo();
      const [found, stores] = await Promise.all([models(), may(info, "read") ? listStores() : null]);
      set({ info, models: found, stores, connection: "online" });
      // A server without keys takes none, and one with keys took this one.
      if (session.getState().refusal !== null) session.setState({ refusal: null });
    } catch (error) {
      if (error instanceof OfflineError) set({ connection: "offline" });
      else if (!(error instanceof ApiError)) throw error;
    }
  },

  watch: async () => {
    const before = get();
    try {
      const { status, missing } = await readiness();
      set({ connection: "online", missing, shuttingDown: status === "shutting_down" });
    } catch {
      set({ connection: "offline" });
      return;
    }
    const cameBack = before.connection !== "online";
    const hasMore = Object.keys(before.missing).length !== Object.keys(get().missing).length;
    if (cameBack || hasMore || before.info === null) await get().refresh();
  },
}));

/** Looks at the server for as long as something is missing, and slowly when nothing is. Returns how to stop. */
export function watchServer(): () => void {
  let timer: number | undefined;
  let stopped = false;
  async function look() {
    await server.getState().watch();
    if (stopped) return;
    const { connection, missing } = server.getState();
    const isSettled = connection === "online" && Object.keys(missing).length === 0;
    timer = window.setTimeout(look, isSettled ? 15 * WATCH_EVERY_MS : WATCH_EVERY_MS);
  }
  function lookNow() {
    window.clearTimeout(timer);
    void look();
  }
  addEventListener("online", lookNow);
  addEventListener("offline", lookNow);
  void look();
  return () => {
    stopped = true;
    window.clearTimeout(timer);
    removeEventListener("online", lookNow);
    removeEventListener("offline", lookNow);
  };
}

export function may(info: ServerInfo | null, scope: Scope): boolean {
  return info?.key.scopes.includes(scope) ?? false;
}
