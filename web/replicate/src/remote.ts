/** The server's functions of a collection, over the official Convex clients. */

import { makeFunctionReference } from "convex/server";
import { own } from "./memory.js";
import type { Update } from "./store.js";

export interface Write extends Update {
  /** The idempotency key: a write that was taken is not taken again. */
  readonly id: string;
}

/** What the server said to a write. */
export interface WriteResult {
  readonly id: string;
  /** Taken now; taken before; not taken because it builds on what the server has not; refused. */
  readonly status: "applied" | "known" | "gapped" | "refused";
  readonly code?: string;
  readonly message?: string;
}

/** A document as the server has it. */
export interface Recovered {
  readonly document: string;
  /** What is missing at the vector that was sent, or all. */
  readonly bytes?: Uint8Array<ArrayBuffer>;
  /** The server's state vector. */
  readonly vector: Uint8Array;
  /** What the caller may do with it; a server that does not say lets them write. */
  readonly access?: "none" | "read" | "write";
}

export interface ServerChange extends Update {
  /** False when the document was deleted, or is not for the caller any more. */
  readonly exists?: boolean;
}

export interface Changes {
  readonly changes: readonly ServerChange[];
  /** Where to go on. */
  readonly cursor: number;
  /** Whether there is more after it by now. */
  readonly more: boolean;
}

/** Some of the documents of the server, whole. */
export interface Page {
  readonly documents: readonly ServerChange[];
  /** From where the changes are to be followed when all pages are here; that of the first page counts. */
  readonly seq: number;
  /** What gets the next page; absent on the last. */
  readonly cursor?: string;
}

/** Who else is on a document. */
export interface Presence {
  readonly client: string;
  readonly user?: string;
  readonly profile?: { readonly name?: string; readonly color?: string; readonly avatar?: string };
  readonly cursor?: { readonly anchor: unknown; readonly head: unknown; readonly field?: string };
  readonly seen: number;
}

/** The server as a collection sees it. Promises reject for faults of the network and of the server. */
export interface Remote {
  write(writes: readonly Write[]): Promise<readonly WriteResult[]>;
  recover(documents: readonly { document: string; vector?: Uint8Array<ArrayBuffer> }[]): Promise<readonly Recovered[]>;
  /** Gets a page of all documents: the first, or the one of a cursor. */
  all(cursor?: string): Promise<Page>;
  /** Follows the changes after a cursor: calls take with all of them again whenever there are more. */
  watch(cursor: number, take: (changes: Changes) => void, fail: (error: Error) => void): () => void;
  presence(args: PresenceArgs): Promise<unknown>;
  watchPresence(document: string, take: (present: readonly Presence[]) => void, fail: (error: Error) => void): () => void;
  connected(): boolean;
  onConnection(changed: () => void): () => void;
}

export interface PresenceArgs {
  readonly document: string;
  readonly client: string;
  readonly action: "join" | "leave" | "mark" | "signal";
  readonly user?: string;
  readonly profile?: Presence["profile"];
  readonly cursor?: Presence["cursor"];
  readonly interval?: number;
}

/** What is used of a `ConvexClient`. */
export interface Client {
  mutation(reference: never, args: never): Promise<unknown>;
  query(reference: never, args: never): Promise<unknown>;
  onUpdate(reference: never, args: never, take: (result: never) => unknown, fail?: (error: Error) => unknown): () => void;
  connectionState(): { isWebSocketConnected: boolean };
  subscribeToConnectionState(changed: () => void): () => void;
}

/** What is used of a `ConvexReactClient` instead of `onUpdate`. */
export interface ReactClient extends Omit<Client, "onUpdate"> {
  watchQuery(reference: never, args: never): { onUpdate(changed: () => void): () => void; localQueryResult(): unknown };
}

/** How many changes one answer has at most. 1,000 would stand for as many as the server can. */
const CHANGES_MAX = 999;
/** How many documents a page has at most: so many that the page is not still for long while they are taken apart. */
const DOCUMENTS_MAX = 2000;

const buffer = (bytes: Uint8Array): ArrayBuffer => own(bytes).buffer;
interface ServerDocument {
  readonly document: string;
  readonly bytes: ArrayBuffer;
  readonly exists?: boolean;
}

const changeOf = ({ document, bytes, exists = true }: ServerDocument): ServerChange => ({ document, bytes: bytesOf(bytes), exists });
const bytesOf = (value: ArrayBuffer): Uint8Array<ArrayBuffer> => new Uint8Array(value);

/** Speaks to the functions `collection:*` with a client. */
export function convexRemote(client: Client | ReactClient, collection: string): Remote {
  const mutation = (name: string, args: object): Promise<unknown> =>
    client.mutation(makeFunctionReference<"mutation">(`${collection}:${name}`) as never, args as never);
  const query = (name: string, args: object): Promise<unknown> =>
    client.query(makeFunctionReference<"query">(`${collection}:${name}`) as never, args as never);
  const watch = <T>(name: string, args: object, take: (result: T) => void, fail: (error: Error) => void): (() => void) => {
    const reference = makeFunctionReference<"query">(`${collection}:${name}`) as never;
    if ("onUpdate" in client) return client.onUpdate(reference, args as never, take as (result: never) => void, fail);
    const watched = client.watchQuery(reference, args as never);
    const read = (): void => {
      let result;
      try {
        result = watched.localQueryResult();
      } catch (error) {
        fail(error instanceof Error ? error : new Error(String(error)));
        return;
      }
      if (result !== undefined) take(result as T);
    };
    const stop = watched.onUpdate(read);
    read();
    return stop;
  };
  return {
    write: async (writes) => {
      const args = { writes: writes.map(({ id, document, bytes }) => ({ id, document, bytes: buffer(bytes) })) };
      return ((await mutation("replicateBatch", args)) as { results: WriteResult[] }).results;
    },
    recover: async (documents) => {
      const asked = documents.map(({ document, vector }) => (vector ? { document, vector: buffer(vector) } : { document }));
      const found: Recovered[] = [];
      for (let cursor: string | undefined, more = true; more; ) {
        const answer = (await query("recoverBatch", cursor === undefined ? { documents: asked } : { documents: asked, cursor })) as {
          documents: { document: string; bytes?: ArrayBuffer; vector: ArrayBuffer; access?: "none" | "read" | "write" }[];
          cursor?: string;
        };
        for (const { document, bytes, vector, access } of answer.documents) {
          const some = bytes && bytes.byteLength > 0 ? { bytes: bytesOf(bytes) } : {};
          found.push({ document, vector: bytesOf(vector), ...some, ...(access ? { access } : {}) });
        }
        cursor = answer.cursor;
        more = cursor !== undefined;
      }
      return found;
    },
    all: async (cursor) => {
      const args = { limit: DOCUMENTS_MAX, material: false, ...(cursor === undefined ? {} : { cursor }) };
      const { documents, ...rest } = (await query("snapshot", args)) as { documents: ServerDocument[]; seq: number; cursor?: string };
      return { ...rest, documents: documents.map(changeOf) };
    },
    watch: (cursor, take, fail) =>
      watch<{ changes: ServerDocument[]; seq: number; more: boolean }>(
        "delta",
        { seq: cursor, limit: CHANGES_MAX },
        ({ changes, seq, more }) => take({ changes: changes.map(changeOf), cursor: seq, more }),
        fail,
      ),
    presence: (args) => mutation("presence", args),
    watchPresence: (document, take, fail) => watch<readonly Presence[]>("session", { document, connected: true }, take, fail),
    connected: () => client.connectionState().isWebSocketConnected,
    onConnection: (changed) => {
      let before = client.connectionState().isWebSocketConnected;
      return client.subscribeToConnectionState(() => {
        const now = client.connectionState().isWebSocketConnected;
        if (now === before) return;
        before = now;
        changed();
      });
    },
  };
}
