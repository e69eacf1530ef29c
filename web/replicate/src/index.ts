/**
 * Documents that survive being offline: collections of Yjs documents that are on the device first,
 * and on the server of Halcyon's module `replicate` as soon as that is possible.
 */

import { Collection } from "./collection.js";
import { indexedDB } from "./indexeddb.js";
import { memory } from "./memory.js";
import { type Client, convexRemote, type ReactClient } from "./remote.js";
import type { Persistence } from "./store.js";

export interface ReplicateOptions {
  /** A `ConvexClient` or a `ConvexReactClient`. It should have `unsavedChangesWarning: false`: nothing is lost with the page. */
  readonly client: Client | ReactClient;
  /** The name of the collection, which is that of the module on the server. */
  readonly collection: string;
  /** The fields that are rich text. */
  readonly prose?: readonly string[];
  /** Where the device keeps it. The default is IndexedDB, and memory where there is none. */
  readonly persistence?: Persistence;
}

/** Opens a collection. It is there at once, and has what the device has when its `loaded` resolves. */
export function replicate<Row extends { id: string }>({ client, collection, prose, persistence }: ReplicateOptions): Collection<Row> {
  return new Collection<Row>({
    name: collection,
    remote: convexRemote(client, collection),
    persistence: persistence ?? (typeof globalThis.indexedDB === "undefined" ? memory() : indexedDB()),
    ...(prose ? { prose } : {}),
  });
}

export { Collection, type CollectionOptions, type Status } from "./collection.js";
export type { Environment } from "./environment.js";
export { indexedDB } from "./indexeddb.js";
export { Here, type Me } from "./presence.js";
export type { Fields } from "./material.js";
export { memory } from "./memory.js";
export type { SyncState } from "./outbox.js";
export { type Client, convexRemote, type Presence, type ReactClient, type Remote, type Write, type WriteResult } from "./remote.js";
export type { Persistence, Refusal, Store } from "./store.js";
export type { JoinTabs, Tabs } from "./tabs.js";
