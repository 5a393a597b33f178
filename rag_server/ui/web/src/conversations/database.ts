/** Where conversations are kept: in this browser, apart for each API key. */

import { type DBSchema, type IDBPDatabase, openDB } from "idb";
import type { ConversationSettings } from "./settings";
import { holds, type Tree } from "./tree";

/** What the list shows. */
export interface ConversationHead {
  id: string;
  /** The id of the key that it belongs to; "" without keys. */
  owner: string;
  title: string;
  createdAt: number;
  updatedAt: number;
}

export interface Conversation extends ConversationHead {
  tree: Tree;
  settings: ConversationSettings;
}

interface Schema extends DBSchema {
  heads: { key: string; value: ConversationHead; indexes: { owner: string } };
  bodies: {
    key: string;
    value: { id: string; owner: string; tree: Tree; settings: ConversationSettings };
    indexes: { owner: string };
  };
}

export class ConversationDatabase {
  private constructor(private readonly database: IDBPDatabase<Schema>) {}

  static async open(name = "rag-server"): Promise<ConversationDatabase> {
    const database = await openDB<Schema>(name, 1, {
      upgrade(upgraded) {
        upgraded.createObjectStore("heads", { keyPath: "id" }).createIndex("owner", "owner");
        upgraded.createObjectStore("bodies", { keyPath: "id" }).createIndex("owner", "owner");
      },
    });
    return new ConversationDatabase(database);
  }

  /** Returns the heads of that owner, the latest first. */
  async heads(owner: string): Promise<ConversationHead[]> {
    const heads = await this.database.getAllFromIndex("heads", "owner", owner);
    return heads.sort((one, other) => other.updatedAt - one.updatedAt);
  }

  async get(id: string, owner: string): Promise<Conversation | null> {
    const transaction = this.database.transaction(["heads", "bodies"]);
    const [head, body] = await Promise.all([
      transaction.objectStore("heads").get(id),
      transaction.objectStore("bodies").get(id),
    ]);
    return head && body && head.owner === owner ? { ...head, ...body } : null;
  }

  async put(conversation: Conversation): Promise<void> {
    const { id, owner, title, createdAt, updatedAt, tree, settings } = conversation;
    const transaction = this.database.transaction(["heads", "bodies"], "readwrite");
    await Promise.all([
      transaction.objectStore("heads").put({ id, owner, title, createdAt, updatedAt }),
      transaction.objectStore("bodies").put({ id, owner, tree, settings }),
      transaction.done,
    ]);
  }

  async delete(id: string): Promise<void> {
    const transaction = this.database.transaction(["heads", "bodies"], "readwrite");
    await Promise.all([
      transaction.objectStore("heads").delete(id),
      transaction.objectStore("bodies").delete(id),
      transaction.done,
    ]);
  }

  /** Returns the ids of those conversations of the owner in which a turn holds the text, which is in lower case. */
  async containing(wanted: string, owner: string): Promise<Set<string>> {
    const found = new Set<string>();
    let cursor = await this.database.transaction("bodies").store.index("owner").openCursor(owner);
    while (cursor) {
      if (holds(cursor.value.tree, wanted)) found.add(cursor.value.id);
      cursor = await cursor.continue();
    }
    return found;
  }
}
