import { Library, LogOut, Monitor, Moon, Plus, Sun } from "lucide-react";
import { hashOf, useRoute } from "../router";
import { server } from "../server-state";
import { session } from "../session";
import { ConversationList } from "./ConversationList";
import { appearance } from "./theme";

const THEME_ICONS = { system: Monitor, light: Sun, dark: Moon };

/** The way around: conversations, collections, appearance, signing out. */
export function Sidebar({ onGone }: { onGone?: () => void }) {
  const route = useRoute();
  const { theme, next } = appearance();
  const hasKey = session(({ key }) => key !== null);
  const canRead = server(({ stores }) => stores !== null);
  const ThemeIcon = THEME_ICONS[theme];
  return (
    <nav className="side" aria-label="Main">
      <div className="side-top">
        <a
          className="button primary side-new"
          href={hashOf({ name: "chat", conversationId: null })}
          onClick={onGone}
        >
          <Plus size={16} aria-hidden /> New conversation
        </a>
        {canRead && (
          <a
            className="side-link"
            href={hashOf({ name: "collections" })}
            aria-current={route.name === "collections" || route.name === "collection" ? "page" : undefined}
            onClick={onGone}
          >
            <Library size={16} aria-hidden /> Collections
          </a>
        )}
      </div>
      <ConversationList {...(onGone ? { onGone } : {})} />
      <div className="side-foot">
        <span className="muted small">rag-server</span>
        <button
          type="button"
          className="icon-button"
          aria-label={`Theme: ${theme}`}
          title={`Theme: ${theme}`}
          onClick={next}
        >
          <ThemeIcon size={18} aria-hidden />
        </button>
        {hasKey && (
          <button
            type="button"
            className="icon-button"
            aria-label="Sign out"
            title="Sign out"
            onClick={signOut}
          >
            <LogOut size={18} aria-hidden />
          </button>
        )}
      </div>
    </nav>
  );
}

function signOut() {
  session.getState().signOut();
  // Whatever was shown with the key goes with it.
  location.hash = "";
  location.reload();
}
