/** The address of what is shown, kept behind the `#`, so that the server serves one page. */

import { useSyncExternalStore } from "react";

export type Route =
  | { name: "chat"; conversationId: string | null }
  | { name: "collections" }
  | { name: "collection"; storeId: string }
  | { name: "passage"; passageId: number };

export function routeOf(hash: string): Route {
  const [area, id] =
    hash
      .replace(/^#?\/?/, "")
      .split("?")[0]
      ?.split("/")
      .map(decoded) ?? [];
  if (area === "c" && id) return { name: "chat", conversationId: id };
  if (area === "collections") return id ? { name: "collection", storeId: id } : { name: "collections" };
  if (area === "passages" && /^\d{1,19}$/.test(id ?? "")) return { name: "passage", passageId: Number(id) };
  return { name: "chat", conversationId: null };
}

export function hashOf(route: Route): string {
  switch (route.name) {
    case "chat":
      return route.conversationId === null ? "#/" : `#/c/${encodeURIComponent(route.conversationId)}`;
    case "collections":
      return "#/collections";
    case "collection":
      return `#/collections/${encodeURIComponent(route.storeId)}`;
    case "passage":
      return `#/passages/${route.passageId}`;
  }
}

export function go(route: Route, { replace = false } = {}): void {
  const hash = hashOf(route);
  if (!replace) location.hash = hash;
  else {
    history.replaceState(null, "", hash);
    dispatchEvent(new HashChangeEvent("hashchange"));
  }
}

export function useRoute(): Route {
  const hash = useSyncExternalStore(
    (changed) => {
      addEventListener("hashchange", changed);
      return () => removeEventListener("hashchange", changed);
    },
    () => location.hash,
  );
  return routeOf(hash);
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
