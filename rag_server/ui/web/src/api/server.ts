/** What the server is, has and lets this key do. */

import { requestJson } from "./http";
import type { List, Model, Readiness, ServerInfo } from "./shapes";

export function serverInfo(): Promise<ServerInfo> {
  return requestJson("/v1/rag");
}

export async function models(): Promise<Model[]> {
  return (await requestJson<List<Model>>("/v1/models")).data;
}

/** Says what is missing until questions are answered; the server says it with status 503. */
export async function readiness(): Promise<Readiness> {
  const response = await fetch("/ready", { headers: { accept: "application/json" } });
  return (await response.json()) as Readiness;
}
