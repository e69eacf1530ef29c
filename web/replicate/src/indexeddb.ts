import { merge } from "./memory.js";
import type { Change, Fold, Persistence, Snapshot, Store, StoredDocument, StoredWrite, Update } from "./store.js";

/** The version of the stores below; a later one upgrades in `open`. */
const VERSION = 1;

const DOCUMENTS = "documents";
const LOG = "log";
const WRITES = "writes";
const REFUSALS = "refusals";
const FACTS = "facts";
const ALL = [DOCUMENTS, LOG, WRITES, REFUSALS, FACTS];
const BY_DOCUMENT = "document";

/**
 * Keeps each collection in a database of the browser, named `prefix` and its name. Its tabs
 * share it. What is stored survives the end of the tab, of the browser and of its process.
 */
export function indexedDB({ prefix = "halcyon/", factory = globalThis.indexedDB }: { prefix?: string; factory?: IDBFactory } = {}): Persistence {
  return { shared: true, open: async (name) => new IndexedDBStore(await open(factory, prefix + name)) };
}

function open(factory: IDBFactory, name: string): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = factory.open(name, VERSION);
    request.onupgradeneeded = () => {
      const db = request.result;
      db.createObjectStore(DOCUMENTS, { keyPath: "document" });
      db.createObjectStore(LOG, { keyPath: "n", autoIncrement: true }).createIndex(BY_DOCUMENT, "document");
      db.createObjectStore(WRITES, { keyPath: "n", autoIncrement: true }).createIndex(BY_DOCUMENT, "document");
      db.createObjectStore(REFUSALS, { keyPath: "document" });
      db.createObjectStore(FACTS);
    };
    request.onsuccess = () => {
      // A later version of the page may want to upgrade: this one then has to let go.
      request.result.onversionchange = () => request.result.close();
      resolve(request.result);
    };
    request.onerror = () => reject(request.error);
  });
}

class IndexedDBStore implements Store {
  constructor(readonly db: IDBDatabase) {}

  async load(): Promise<Snapshot> {
    const tx = this.db.transaction(ALL, "readonly");
    const [documents, log, writes, refusals, cursor] = await Promise.all([
      result<StoredDocument[]>(tx.objectStore(DOCUMENTS).getAll()),
      result<Update[]>(tx.objectStore(LOG).getAll()),
      result<StoredWrite[]>(tx.objectStore(WRITES).getAll()),
      result<Snapshot["refusals"]>(tx.objectStore(REFUSALS).getAll()),
      result<number | undefined>(tx.objectStore(FACTS).get("cursor")),
    ]);
    return { documents, log, writes, refusals, cursor: cursor ?? 0 };
  }

  async writesAfter(n: number): Promise<StoredWrite[]> {
    return result(this.db.transaction(WRITES, "readonly").objectStore(WRITES).getAll(IDBKeyRange.lowerBound(n, true)));
  }

  commit(change: Change): Promise<number[]> {
    return new Promise((resolve, reject) => {
      const tx = this.db.transaction(ALL, "readwrite");
      const numbers: number[] = [];
      tx.oncomplete = () => resolve(numbers);
      tx.onabort = () => reject(tx.error ?? new Error("the browser gave up storing"));
      put(tx, change, numbers)
        // From here on the browser can end it without this page, which may be about to be closed.
        .then(() => tx.commit())
        .catch((error: unknown) => {
          reject(error);
          try {
            tx.abort();
          } catch {
            // It has ended by itself.
          }
        });
    });
  }

  close(): void {
    this.db.close();
  }
}

/** Makes the requests of a change. It may wait for requests of the transaction, and for nothing else. */
async function put(tx: IDBTransaction, change: Change, numbers: number[]): Promise<void> {
  const [documents, log, writes, refusals] = [DOCUMENTS, LOG, WRITES, REFUSALS].map((name) => tx.objectStore(name)) as [
    IDBObjectStore,
    IDBObjectStore,
    IDBObjectStore,
    IDBObjectStore,
  ];
  for (const document of change.forget ?? []) {
    documents.delete(document);
    refusals.delete(document);
    for (const store of [log, writes]) {
      for (const key of await result(store.index(BY_DOCUMENT).getAllKeys(document))) store.delete(key);
    }
  }
  for (const [i, edit] of (change.edits ?? []).entries()) {
    const request = writes.add({ document: edit.document, bytes: edit.bytes });
    request.onsuccess = () => (numbers[i] = request.result as number);
  }
  for (const n of change.drop ?? []) writes.delete(n);
  for (const write of change.writes ?? []) writes.put(write);
  for (const document of change.accepted ?? []) refusals.delete(document);
  for (const refusal of change.refusals ?? []) refusals.put(refusal);
  if (change.cursor !== undefined) tx.objectStore(FACTS).put(change.cursor, "cursor");
  for (const update of change.log ?? []) log.add({ document: update.document, bytes: update.bytes });
  const fresh = new Set<string>();
  // All at once: a thousand documents are a thousand requests under way, not a thousand turns.
  await Promise.all([
    ...(change.documents ?? []).map(async (document) => {
      const known = await result(documents.getKey(document.document));
      if (known === undefined && !fresh.has(document.document)) documents.add(document);
      else log.add({ document: document.document, bytes: document.bytes });
      fresh.add(document.document);
    }),
    ...(change.fold ?? []).map((fold) => foldOne(documents, log, fold)),
  ]);
}

async function foldOne(documents: IDBObjectStore, log: IDBObjectStore, { document, entries, reading, row }: Fold): Promise<void> {
  const index = log.index(BY_DOCUMENT);
  const [base, updates, keys] = await Promise.all([
    result<StoredDocument | undefined>(documents.get(document)),
    result<Update[]>(index.getAll(document)),
    result(index.getAllKeys(document)),
  ]);
  const parts = [...(base ? [base.bytes] : []), ...updates.map((update) => update.bytes)];
  if (parts.length === 0) return;
  const bytes = merge(parts);
  documents.put(updates.length === entries ? { document, bytes, reading, row } : { document, bytes });
  for (const key of keys) log.delete(key);
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
