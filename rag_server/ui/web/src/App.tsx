import "./styles/tokens.css";
import "./shell/shell.css";
import * as Ariakit from "@ariakit/react";
import { Menu as MenuIcon } from "lucide-react";
import { lazy, Suspense, useEffect } from "react";
import { ChatView } from "./chat/ChatView";
import { newConversationSettings } from "./chat/draft";
import { NO_SETTINGS } from "./conversations/settings";
import { conversations, saveNow } from "./conversations/store";
import { go, type Route, useRoute } from "./router";
import { server, watchServer } from "./server-state";
import { session } from "./session";
import { Banner } from "./shell/Banner";
import { Sidebar } from "./shell/Sidebar";
import { SignIn } from "./shell/SignIn";
import { useShortcuts } from "./shell/shortcuts";

// The first page is the conversation; the other parts come when they are wanted.
const DocumentPanel = lazy(() =>
  import("./documents/DocumentPanel").then((part) => ({ default: part.DocumentPanel })),
);
const DocumentView = lazy(() =>
  import("./documents/DocumentView").then((part) => ({ default: part.DocumentView })),
);
const CollectionsView = lazy(() =>
  import("./knowledge/CollectionsView").then((part) => ({ default: part.CollectionsView })),
);
const CollectionView = lazy(() =>
  import("./knowledge/CollectionView").then((part) => ({ default: part.CollectionView })),
);

export function App() {
  const isRefused = session(({ refusal }) => refusal !== null);
  const keyId = server(({ info }) => (info === null ? null : (info.key.id ?? "")));
  const owner = conversations((state) => state.owner);
  // Nobody sees the conversations of the key before, not for a moment; while the server is silent, one may write all the same.
  const isKnown = keyId === null || owner === keyId;
  useEffect(watchServer, []);
  useEffect(() => {
    if (keyId !== null) void conversations.getState().load(keyId);
  }, [keyId]);
  useEffect(() => {
    addEventListener("pagehide", saveNow);
    return () => removeEventListener("pagehide", saveNow);
  }, []);
  return (
    <>
      <Banner />
      {isRefused ? <SignIn /> : isKnown && <Shell key={owner ?? ""} />}
    </>
  );
}

function Shell() {
  const route = useRoute();
  const drawer = Ariakit.useDialogStore();
  useShortcuts();
  return (
    <div className="shell">
      <div className="shell-side">
        <Sidebar />
      </div>
      <header className="shell-top">
        <button type="button" className="icon-button" aria-label="Open menu" onClick={drawer.show}>
          <MenuIcon size={20} aria-hidden />
        </button>
        <span>rag-server</span>
      </header>
      <Ariakit.Dialog
        store={drawer}
        className="shell-drawer"
        aria-label="Menu"
        backdrop={<div className="backdrop" />}
        unmountOnHide
      >
        <Sidebar onGone={drawer.hide} />
      </Ariakit.Dialog>
      <div className="shell-main">
        <Suspense>
          <RouteView route={route} />
        </Suspense>
      </div>
      <Suspense>
        <DocumentPanel />
      </Suspense>
    </div>
  );
}

function RouteView({ route }: { route: Route }) {
  switch (route.name) {
    case "chat":
      return <ChatView conversationId={route.conversationId} />;
    case "collections":
      return <CollectionsView onAsk={askFrom} />;
    case "collection":
      return <CollectionView key={route.storeId} storeId={route.storeId} onAsk={askFrom} />;
    case "passage":
      return (
        <main className="shell-document" aria-label="Document">
          <DocumentView passageId={route.passageId} quote={null} />
        </main>
      );
  }
}

function askFrom({ id, name }: { id: string; name: string }) {
  newConversationSettings.setState({ settings: { ...NO_SETTINGS, collections: [name || id] } });
  go({ name: "chat", conversationId: null });
}
