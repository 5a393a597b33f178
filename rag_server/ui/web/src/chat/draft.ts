/** What the next conversation begins with: what was chosen last. */

import { create } from "zustand";
import type { ConversationSettings } from "../conversations/settings";

export const newConversationSettings = create<{ settings: ConversationSettings | null }>(() => ({
  settings: null,
}));
