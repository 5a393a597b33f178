/** Light, dark, or as the system says; kept in this browser. */

import { create } from "zustand";

const KEPT_AS = "rag-server-theme";
export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

function kept(): Theme {
  const value = localStorage.getItem(KEPT_AS);
  return THEMES.find((theme) => theme === value) ?? "system";
}

function apply(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export const appearance = create<{ theme: Theme; next(): void }>((set, get) => ({
  theme: kept(),
  next: () => {
    const theme = THEMES[(THEMES.indexOf(get().theme) + 1) % THEMES.length] ?? "system";
    localStorage.setItem(KEPT_AS, theme);
    apply(theme);
    set({ theme });
  },
}));

apply(appearance.getState().theme);
