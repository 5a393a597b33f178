/** Keys that work everywhere: Ctrl or Command and K begins a conversation, / goes to the search. */

import { useEffect } from "react";
import { go } from "../router";

const WRITING = "input, textarea, select, [contenteditable]";

export function useShortcuts(): void {
  useEffect(() => {
    function onKeyDown(event: KeyboardEvent) {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        go({ name: "chat", conversationId: null });
        document.getElementById("question")?.focus();
      } else if (event.key === "/" && !(event.target as HTMLElement).closest(WRITING)) {
        const search = document.getElementById("search-conversations");
        if (search === null) return;
        event.preventDefault();
        search.focus();
      }
    }
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, []);
}
