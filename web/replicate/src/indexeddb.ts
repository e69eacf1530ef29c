import { merge } from "./memory.js";
import type { Change, Fold, Persistence, Snapshot, Store, StoredDocument, StoredWrite, Update } from "./store.js";

/** The version of the stores below; a later one upgrades in `open`. */
const VERSION = 2;

const DOCUMENTS = "documents";
/**
 * Documents that came many at once, as a list in one record: a thousand records take a browser a hundred times as long.
 * The state of a document is the merge of what is in packs, in documents and in the log.
 */
const PACKS = "packs";
const LOG = "log";
const WRITES = "writes";
const REFUSALS = "refusals";
const FACTS = "facts";
const ALL = [DOCUMENTS, PACKS, LOG, WRITES, REFUSALS, FACTS];
const BY_DOCUMENT = "document";

/** How many new documents of one change are a pack. */
const PACK_MIN = 16;

/**
 * Keeps each collection in a database of the browser, named `prefix` and its name. Its tabs
 * share it. What is stored survives the end of the tab, of the browser and of its process.
 */
export function indexedDB({
  prefix = "halcyon/",
  factory = globalThis.indexedDB,
  storage = pageStorage,
}: { prefix?: string; factory?: IDBFactory; storage?: () => Storage | undefined } = {}): Persistence {
  const rescued = (name: string): Rescued => new Rescued(storage, `${prefix}${name}/rescued/`);
  return {
    shared: true,
    open: (name, late) => open(factory, prefix + name, rescued(name), late),
    rescue: (name, updates) => rescued(name).keep(updates),
  };
}

function pageStorage(): Storage | undefined {
  try {
    return typeof document === "undefined" ? undefined : globalThis.localStorage;
  } catch {
    return undefined; // the user does not allow it
  }
}

type Late = (updates: readonly Update[]) => void;

/**
 * Edits of pages that went before the database had them. A browser drops what a page has not handed over when it goes,
 * and perhaps what waits in the database for something else; localStorage has what it is given when the call returns.
 */
class Rescued {
  readonly #storage: () => Storage | undefined;
  readonly #prefix: string;

  constructor(storage: () => Storage | undefined, prefix: string) {
    this.#storage = storage;
    this.#prefix = prefix;
  }

  keep(updates: readonly Update[]): void {
    const entry = updates.map(({ document, bytes }) => [document, Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")]);
    try {
      this.#storage()?.setItem(this.#prefix + Math.random(), JSON.stringify(entry));
    } catch {
      // There is no room. Nothing else can be done in a page that goes.
    }
  }

  /** Calls when another page has kept some, until what it returns is called. */
  hear(kept: () => void): () => void {
    const hear = ({ key, newValue }: StorageEvent): void => {
      if (newValue !== null && key?.startsWith(this.#prefix)) kept();
    };
    globalThis.addEventListener?.("storage", hear);
    return () => globalThis.removeEventListener?.("storage", hear);
  }

  /** The edits, and what to call when they are stored. */
  take(): { updates: Update[]; stored: () => void } {
    const storage = this.#storage();
    const keys = Object.keys(storage ?? {}).filter((key) => key.startsWith(this.#prefix));
    const updates: Update[] = [];
    for (const key of keys) {
      try {
        const entry = JSON.parse(storage?.getItem(key) ?? "[]") as [string, string][];
        updates.push(...entry.map(([document, text]) => ({ document, bytes: Uint8Array.from(text, (char) => char.charCodeAt(0)) })));
      } catch {
        // Nobody's edits: others write to this storage too.
      }
    }
    return { updates, stored: () => keys.forEach((key) => storage?.removeItem(key)) };
  }
}

/**
 * Opens a database. One that is new is there as soon as the browser says that nothing is in it: to make it takes a
 * browser as long as a page needs to ask the server.
 */
function open(factory: IDBFactory, name: string, rescued: Rescued, late?: Late): Promise<Store> {
  return new Promise((resolve, reject) => {
    const request = factory.open(name, VERSION);
    const opening = new Promise<IDBDatabase>((opened, failed) => {
      request.onsuccess = () => {
        // A later version of the page may want to upgrade: this one then has to let go.
        request.result.onversionchange = () => request.result.close();
        opened(request.result);
      };
      request.onerror = () => failed(request.error);
    });
    request.onupgradeneeded = ({ oldVersion }) => {
      const db = request.result;
      db.createObjectStore(PACKS, { autoIncrement: true });
      if (oldVersion === 1) return;
      db.createObjectStore(DOCUMENTS, { keyPath: "document" });
      db.createObjectStore(LOG, { keyPath: "n", autoIncrement: true }).createIndex(BY_DOCUMENT, "document");
      db.createObjectStore(WRITES, { keyPath: "n", autoIncrement: true }).createIndex(BY_DOCUMENT, "document");
      db.createObjectStore(REFUSALS, { keyPath: "document" });
      db.createObjectStore(FACTS);
      resolve(new IndexedDBStore(rescued, late, opening));
    };
    opening.then((db) => resolve(new IndexedDBStore(rescued, late, opening, db)), reject);
  });
}

class IndexedDBStore implements Store {
  readonly #rescued: Rescued;
  readonly #deaf: () => void;
  readonly #opening: Promise<IDBDatabase>;
  /** The database, which waits for `opening` only where it is being made. */
  #db: IDBDatabase | undefined;

  constructor(rescued: Rescued, late: Late | undefined, opening: Promise<IDBDatabase>, db?: IDBDatabase) {
    this.#rescued = rescued;
    // The page before this one may go only now. The next load tries again where there is no room.
    this.#deaf = rescued.hear(() => void this.#adopt().then(late, () => {}));
    this.#opening = opening;
    this.#db = db;
    // First in line: what waits for it goes on in its order, before what finds it there.
    if (!db) opening.then((db) => (this.#db = db)).catch(() => {}); // whoever wants to store something is told
  }

  async load(): Promise<Snapshot> {
    try {
      await this.#adopt();
    } catch {
      // There is no room for them. They stay where they are, and are shown all the same.
      const found = await this.#read();
      return { ...found, log: [...found.log, ...this.#rescued.take().updates] };
    }
    return this.#read();
  }

  /** Stores what was rescued, and returns it. */
  async #adopt(): Promise<Update[]> {
    const { updates, stored } = this.#rescued.take();
    if (updates.length > 0) await this.commit({ edits: updates });
    stored();
    return updates;
  }

  async #read(): Promise<Snapshot> {
    // No other tab has it open either before it is made.
    if (!this.#db) return { documents: [], log: [], writes: [], refusals: [], cursor: 0 };
    const tx = this.#db.transaction(ALL, "readonly");
    const [single, packs, log, writes, refusals, cursor] = await Promise.all([
      result<StoredDocument[]>(tx.objectStore(DOCUMENTS).getAll()),
      result<StoredDocument[][]>(tx.objectStore(PACKS).getAll()),
      result<Update[]>(tx.objectStore(LOG).getAll()),
      result<StoredWrite[]>(tx.objectStore(WRITES).getAll()),
      result<Snapshot["refusals"]>(tx.objectStore(REFUSALS).getAll()),
      result<number | undefined>(tx.objectStore(FACTS).get("cursor")),
    ]);
    // A document that is in several places is in the snapshot once, and what else there is of it as in the log.
    const documents = new Map<string, StoredDocument>();
    for (const document of [...single, ...packs.flat()]) {
      if (!documents.has(document.document)) documents.set(document.document, document);
      else log.push({ document: document.document, bytes: document.bytes });
    }
    return { documents: [...documents.values()], log, writes, refusals, cursor: cursor ?? 0 };
  }

  async writesAfter(n: number): Promise<StoredWrite[]> {
    const db = this.#db ?? (await this.#opening);
    return result(db.transaction(WRITES, "readonly").objectStore(WRITES).getAll(IDBKeyRange.lowerBound(n, true)));
  }

  async commit(change: Change): Promise<number[]> {
    const db = this.#db ?? (await this.#opening);
    return new Promise((resolve, reject) => {
      const tx = db.transaction(ALL, "readwrite");
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
    this.#deaf();
    if (this.#db) this.#db.close();
    else this.#opening.then((db) => db.close()).catch(() => {});
  }
}

/** Makes the requests of a change. It may wait for requests of the transaction, and for nothing else. */
async function put(tx: IDBTransaction, change: Change, numbers: number[]): Promise<void> {
  const [documents, packs, log, writes, refusals] = [DOCUMENTS, PACKS, LOG, WRITES, REFUSALS].map((name) => tx.objectStore(name)) as [
    IDBObjectStore,
    IDBObjectStore,
    IDBObjectStore,
    IDBObjectStore,
    IDBObjectStore,
  ];
  if (change.forget?.length) await unpack(packs, new Set(change.forget));
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
  const added = change.documents ?? [];
  const isPack = added.length >= PACK_MIN;
  if (isPack) packs.add(added);
  await Promise.all([
    ...(isPack ? [] : added).map(async (document) => {
      if (await isNew(documents.add(document))) return;
      log.add({ document: document.document, bytes: document.bytes });
    }),
    ...(change.fold ?? []).map((fold) => foldOne(documents, log, fold)),
  ]);
}

/** Whether a record was added that was not there. The transaction goes on if it was. */
function isNew(request: IDBRequest): Promise<boolean> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(true);
    request.onerror = (event) => {
      if (request.error?.name !== "ConstraintError") return reject(request.error);
      event.preventDefault();
      event.stopPropagation();
      resolve(false);
    };
  });
}

/** Takes documents out of the packs. Seldom done, so nothing says in which they are. */
async function unpack(packs: IDBObjectStore, documents: ReadonlySet<string>): Promise<void> {
  const [keys, values] = await Promise.all([result(packs.getAllKeys()), result<StoredDocument[][]>(packs.getAll())]);
  for (const [i, pack] of values.entries()) {
    const rest = pack.filter(({ document }) => !documents.has(document));
    if (rest.length < pack.length) packs.put(rest, keys[i]);
  }
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
