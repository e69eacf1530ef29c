import * as Y from "yjs";
import type { Change, Persistence, Refusal, Snapshot, Store, StoredDocument, StoredWrite, Update } from "./store.js";

/** Keeps collections in memory, for as long as the returned value lives: opened again, they are as they were. */
export function memory(): Persistence {
  const stores = new Map<string, MemoryStore>();
  return {
    shared: false,
    open: async (name) => {
      let store = stores.get(name);
      if (!store) stores.set(name, (store = new MemoryStore()));
      return store;
    },
  };
}

class MemoryStore implements Store {
  #documents = new Map<string, StoredDocument>();
  #log: Update[] = [];
  #writes = new Map<number, StoredWrite>();
  #refusals = new Map<string, Refusal>();
  #cursor = 0;
  #last = 0;

  async load(): Promise<Snapshot> {
    return {
      documents: [...this.#documents.values()],
      log: [...this.#log],
      writes: this.#inOrder(),
      refusals: [...this.#refusals.values()],
      cursor: this.#cursor,
    };
  }

  async writesAfter(n: number): Promise<StoredWrite[]> {
    return this.#inOrder().filter((write) => write.n > n);
  }

  #inOrder(): StoredWrite[] {
    return [...this.#writes.values()].sort((a, b) => a.n - b.n);
  }

  async commit(change: Change): Promise<number[]> {
    for (const document of change.forget ?? []) {
      this.#documents.delete(document);
      this.#log = this.#log.filter((update) => update.document !== document);
      for (const write of this.#inOrder()) if (write.document === document) this.#writes.delete(write.n);
      this.#refusals.delete(document);
    }
    for (const document of change.documents ?? []) {
      if (this.#documents.has(document.document)) this.#log.push({ document: document.document, bytes: document.bytes });
      else this.#documents.set(document.document, document);
    }
    this.#log.push(...(change.log ?? []));
    for (const { document, entries, reading, row } of change.fold ?? []) {
      const log = this.#log.filter((update) => update.document === document);
      const base = this.#documents.get(document);
      const parts = [...(base ? [base.bytes] : []), ...log.map((update) => update.bytes)];
      if (parts.length === 0) continue;
      const bytes = merge(parts);
      this.#documents.set(document, log.length === entries ? { document, bytes, reading, row } : { document, bytes });
      this.#log = this.#log.filter((update) => update.document !== document);
    }
    for (const n of change.drop ?? []) this.#writes.delete(n);
    for (const write of change.writes ?? []) this.#writes.set(write.n, write);
    for (const document of change.accepted ?? []) this.#refusals.delete(document);
    for (const refusal of change.refusals ?? []) this.#refusals.set(refusal.document, refusal);
    if (change.cursor !== undefined) this.#cursor = change.cursor;
    return (change.edits ?? []).map(({ document, bytes }) => {
      const n = ++this.#last;
      this.#writes.set(n, { n, document, bytes });
      return n;
    });
  }

  close(): void {}
}

/** Merges updates of one document, of which there is at least one. */
export function merge(updates: readonly Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  const [first] = updates;
  if (first !== undefined && updates.length === 1) return first;
  return own(Y.mergeUpdatesV2(updates as Uint8Array[]));
}

/**
 * Returns bytes that are all of their buffer. Encoders return views of a larger buffer, and
 * what is sent or stored by its buffer would carry along what lies beside them.
 */
export function own(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  if (bytes.byteLength === bytes.buffer.byteLength && bytes.buffer instanceof ArrayBuffer) return bytes as Uint8Array<ArrayBuffer>;
  return bytes.slice();
}
