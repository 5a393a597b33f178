/** The API key of this tab: kept for as long as the tab is open, and nowhere else. */

import { create } from "zustand";

const KEPT_AS = "rag-server-key";

interface Session {
  key: string | null;
  /** Why the server wants a key, or another one; null while it takes what it gets. */
  refusal: string | null;
  /** Has the key sent from now on; the refusal stands until the server takes it. */
  signIn(key: string): void;
  signOut(): void;
  refuse(reason: string): void;
}

export const session = create<Session>((set) => ({
  key: sessionStorage.getItem(KEPT_AS),
  refusal: null,
  signIn: (key) => {
    sessionStorage.setItem(KEPT_AS, key);
    set({ key });
  },
  signOut: () => {
    sessionStorage.removeItem(KEPT_AS);
    set({ key: null, refusal: null });
  },
  refuse: (reason) => set({ refusal: reason }),
}));
