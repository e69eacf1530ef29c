import * as Y from "yjs";
import { newClientID, type Environment } from "./environment.js";
import { glance } from "./glance.js";
import { type Fields, readRow, same, sameBytes } from "./material.js";
import { merge, own } from "./memory.js";

/** How many Y.Docs that nobody holds are kept, for the clicks that come in a row. */
const IDLE_DOCS_MAX = 32;
/** How many updates of a document are kept apart before they are merged. */
const PARTS_MAX = 32;

/** The origin of what did not come from this tab. */
const ELSEWHERE = Symbol("elsewhere");

interface Entry {
  readonly document: string;
  /** The state: updates whose merge it is. They are the truth; `doc` follows them. */
  parts: Uint8Array<ArrayBuffer>[];
  row: Fields | null;
  /** Whether `row` is to be read again. */
  stale: boolean;
  doc?: Y.Doc;
  holders: number;
  /** The number its operations are made under in this tab. */
  client: number;
  /** What applying an update from elsewhere has changed. */
  news?: Uint8Array<ArrayBuffer> | undefined;
}

/**
 * The documents of a collection as this tab has them: bytes and rows. A Y.Doc is made of one
 * only while somebody holds it, or to change it; the last few are kept.
 */
export class Documents {
  readonly #environment: Environment;
  readonly #edited: (document: string, bytes: Uint8Array<ArrayBuffer>) => void;
  readonly #changed: () => void;
  readonly #entries = new Map<string, Entry>();
  /** Entries with a Y.Doc, the one used last at the end. */
  readonly #loaded = new Set<Entry>();
  readonly #client: number;
  /** Documents that came from elsewhere and whose first row has not been read: they are not in `rows` yet. */
  readonly #unread = new Set<Entry>();
  /** Whether there are rows that were read and not told of. */
  #untold = false;
  #rows: readonly Fields[] | undefined;
  #sorted: Entry[] | undefined;

  /** @param edited hears of each change that was made here; @param changed that rows may be others now. */
  constructor(environment: Environment, edited: (document: string, bytes: Uint8Array<ArrayBuffer>) => void, changed: () => void) {
    this.#environment = environment;
    this.#edited = edited;
    this.#changed = changed;
    this.#client = newClientID(environment);
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The names of all documents. */
  names(): string[] {
    return [...this.#entries.keys()];
  }

  has(document: string): boolean {
    return this.#entries.has(document);
  }

  /** Adds state that was stored. The row, where there is one, is of these bytes. */
  put(document: string, bytes: Uint8Array<ArrayBuffer>, row?: Fields | null): void {
    const known = this.#entries.get(document);
    if (known) {
      if (known.parts.length === 1 && sameBytes(known.parts[0] as Uint8Array, bytes)) return;
      this.apply(document, bytes);
      return;
    }
    const entry = this.#add(document, [bytes], row);
    // One that has no row yet changes nothing for who looks at rows.
    if (row === undefined) this.#unread.add(entry);
    else this.#touch();
  }

  #add(document: string, parts: Uint8Array<ArrayBuffer>[], row?: Fields | null): Entry {
    const entry: Entry = { document, parts, row: row ?? null, stale: row === undefined, holders: 0, client: this.#client };
    this.#entries.set(document, entry);
    this.#sorted = undefined;
    return entry;
  }

  /** Applies an update from elsewhere and returns what was new in it, or undefined. */
  apply(document: string, bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> | undefined {
    const entry = this.#entries.get(document);
    if (!entry) {
      this.#unread.add(this.#add(document, [bytes]));
      return bytes;
    }
    // What has come before, as when a device begins anew that had a part of all documents.
    if (entry.parts.length === 1 && sameBytes(entry.parts[0] as Uint8Array, bytes)) return undefined;
    const doc = this.#load(entry);
    entry.news = undefined;
    Y.applyUpdateV2(doc, bytes, ELSEWHERE);
    const news = entry.news;
    entry.news = undefined;
    if (isPending(doc)) {
      // It builds on what is not here yet. The bytes are kept as they are, and found again when that comes.
      this.#append(entry, bytes);
      return bytes;
    }
    return news;
  }

  /** Changes a document; what changed goes to `edited`. */
  edit(document: string, change: (doc: Y.Doc) => void): void {
    const entry = this.#entries.get(document) ?? this.#add(document, []);
    this.#unread.delete(entry);
    const doc = this.#load(entry);
    doc.transact(() => change(doc));
    if (entry.parts.length === 0) this.#remove(entry);
  }

  /** Returns the Y.Doc of a document, and keeps it until it is released as often. */
  hold(document: string): Y.Doc {
    const entry = this.#entries.get(document) ?? this.#add(document, []);
    entry.holders++;
    return this.#load(entry);
  }

  release(document: string): void {
    const entry = this.#entries.get(document);
    if (entry && entry.holders > 0) entry.holders--;
    this.#evict();
  }

  /**
   * Takes another state in the place of what was there, or none. Who holds the Y.Doc hears its
   * event `destroy`, and finds the new one by holding it again.
   */
  replace(document: string, bytes: Uint8Array<ArrayBuffer> | undefined): void {
    const old = this.#entries.get(document);
    if (old) this.#remove(old);
    if (bytes) {
      // What is gone was made under numbers that others may know. It must not be made again as something else.
      this.#add(document, [bytes]).client = newClientID(this.#environment);
    }
    this.#touch();
  }

  #remove(entry: Entry): void {
    this.#entries.delete(entry.document);
    this.#unread.delete(entry);
    this.#sorted = undefined;
    this.#unload(entry);
    this.#rows = undefined;
  }

  /** The whole state of a document as one update. */
  bytes(document: string): Uint8Array<ArrayBuffer> | undefined {
    const entry = this.#entries.get(document);
    return entry && entry.parts.length > 0 ? this.#merged(entry) : undefined;
  }

  #merged(entry: Entry): Uint8Array<ArrayBuffer> {
    if (entry.parts.length > 1) {
      // A Y.Doc has forgotten the content of what was deleted, and joined what was typed in a row.
      const whole = entry.doc && !isPending(entry.doc);
      entry.parts = [whole ? own(Y.encodeStateAsUpdateV2(entry.doc as Y.Doc)) : merge(entry.parts)];
    }
    return entry.parts[0] as Uint8Array<ArrayBuffer>;
  }

  /** The state vector of a document, without the holes of its state. */
  vector(document: string): Uint8Array<ArrayBuffer> {
    const entry = this.#entries.get(document);
    if (!entry || entry.parts.length === 0) return new Uint8Array([0]);
    return own(entry.doc ? Y.encodeStateVector(entry.doc) : Y.encodeStateVectorFromUpdateV2(this.#merged(entry)));
  }

  row(document: string): Fields | null {
    const entry = this.#entries.get(document);
    return entry ? this.#row(entry) : null;
  }

  /** The rows in the order of their ids, but for those that `readRows` has to read. The array is the same until something changes. */
  rows(): readonly Fields[] {
    if (this.#rows) return this.#rows;
    this.#sorted ??= [...this.#entries.values()].sort((a, b) => (a.document < b.document ? -1 : 1));
    const rows: Fields[] = [];
    for (const entry of this.#sorted) {
      if (this.#unread.has(entry)) continue;
      const row = this.#row(entry);
      if (row) rows.push(row);
    }
    this.#rows = rows;
    return rows;
  }

  /** Reads rows of documents that are new here, for up to `ms`, and returns how many are left. Who wants to know of them is told by `tell`. */
  readRows(ms: number): number {
    const end = this.#environment.now() + ms;
    for (const entry of this.#unread) {
      this.#row(entry);
      this.#untold = true;
      if (this.#environment.now() >= end) break;
    }
    return this.#unread.size;
  }

  /** Tells of the rows that were read. */
  tell(): void {
    if (this.#untold) this.#touch();
  }

  #row(entry: Entry): Fields | null {
    if (this.#unread.delete(entry)) this.#rows = undefined;
    if (!entry.stale) return entry.row;
    const glanced = entry.doc || entry.parts.length === 0 ? undefined : glance(entry.document, this.#merged(entry));
    const row = glanced === undefined ? this.#read(entry, (doc) => readRow(entry.document, doc)) : glanced;
    entry.stale = false;
    // Who compares rows by identity sees a change only where there is one.
    if (!same(row, entry.row)) entry.row = row;
    return entry.row;
  }

  /** Reads a document without keeping a Y.Doc that was not there. */
  #read<T>(entry: Entry, read: (doc: Y.Doc) => T): T {
    if (entry.doc) return read(entry.doc);
    const doc = new Y.Doc({ guid: entry.document });
    if (entry.parts.length > 0) Y.applyUpdateV2(doc, this.#merged(entry));
    const result = read(doc);
    doc.destroy();
    return result;
  }

  #load(entry: Entry): Y.Doc {
    this.#loaded.delete(entry);
    this.#loaded.add(entry);
    if (entry.doc) return entry.doc;
    const doc = (entry.doc = new Y.Doc({ guid: entry.document }));
    if (entry.parts.length > 0) Y.applyUpdateV2(doc, this.#merged(entry));
    // After the state, which has operations of this number: Yjs would take them for another's and choose a new one.
    doc.clientID = entry.client;
    doc.on("updateV2", (update: Uint8Array, origin: unknown) => {
      const bytes = own(update);
      this.#append(entry, bytes);
      if (origin === ELSEWHERE) entry.news = bytes;
      else this.#edited(entry.document, bytes);
    });
    this.#evict(entry);
    return doc;
  }

  #append(entry: Entry, bytes: Uint8Array<ArrayBuffer>): void {
    entry.parts.push(bytes);
    if (entry.parts.length > PARTS_MAX) this.#merged(entry);
    entry.stale = true;
    this.#touch();
  }

  #touch(): void {
    this.#rows = undefined;
    this.#untold = false;
    this.#changed();
  }

  /** Lets Y.Docs go that nobody holds, those first that were used longest ago. */
  #evict(spare?: Entry): void {
    let idle = 0;
    for (const entry of this.#loaded) if (entry.holders === 0) idle++;
    for (const entry of this.#loaded) {
      if (idle <= IDLE_DOCS_MAX) return;
      if (entry.holders > 0 || entry === spare) continue;
      this.#unload(entry);
      idle--;
    }
  }

  #unload(entry: Entry): void {
    this.#loaded.delete(entry);
    if (!entry.doc) return;
    this.#merged(entry);
    entry.doc.destroy();
    delete entry.doc;
  }

  close(): void {
    for (const entry of [...this.#loaded]) this.#unload(entry);
  }
}

/** Whether a Y.Doc has updates that build on others it has not. */
function isPending(doc: Y.Doc): boolean {
  return doc.store.pendingStructs !== null || doc.store.pendingDs !== null;
}
