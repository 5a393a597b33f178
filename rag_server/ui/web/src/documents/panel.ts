/** Which document is open beside the conversation, and what of it is marked. */

import { create } from "zustand";

/** A passage, and within its document the stretch to mark; without one the whole passage. Offsets in characters. */
export interface Shown {
  passageId: number;
  quote: { start: number; end: number } | null;
}

interface DocumentPanel {
  shown: Shown | null;
  open(shown: Shown): void;
  close(): void;
}

export const documentPanel = create<DocumentPanel>((set) => ({
  shown: null,
  open: (shown) => set({ shown }),
  close: () => set({ shown: null }),
}));
