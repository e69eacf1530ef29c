import type * as Y from "yjs";
import { Documents } from "./documents.js";
import { type Environment, newID, realEnvironment } from "./environment.js";
import { Follower } from "./follower.js";
import { type Fields, isDeleted, makeProse, markDeleted, writeFields } from "./material.js";
import { merge } from "./memory.js";
import type { DocumentState, SyncState } from "./outbox.js";
import type { Remote } from "./remote.js";
import type { Persistence, Refusal, Snapshot, Store, Update } from "./store.js";
import { alone, browserTabs, type JoinTabs, type Tabs } from "./tabs.js";

/** How long at most the reading of rows keeps the page from doing something else. */
const SLICE_MS = 10;
/** How often the page is told of rows while there are more to come: to show them may take longer than to read them. */
const TELL_MS = 500;
/** How many commits of edits are under way at once; more edits are gathered until one has ended. */
const STORING_MAX = 16;
/** How long after all is here the first edit is rehearsed: the page shows what there is before. */
const REHEARSAL_MS = 50;
/** The same after the device was read, when the server has not said all it has by then. */
const REHEARSAL_MS_MAX = 500;

export interface CollectionOptions {
  /** The name of the collection, which is that of the module on the server. */
  readonly name: string;
  readonly remote: Remote;
  readonly persistence: Persistence;
  /** The fields that are rich text. */
  readonly prose?: readonly string[];
  /** The default is the real clock. */
  readonly environment?: Environment;
  /** The default is that of the persistence. */
  readonly tabs?: JoinTabs;
}

/** How a collection stands with the server, as all tabs know it. */
export interface Status {
  /** What one would say in a word, the first that holds: `loading` from the device, `offline`, `stalled`, `pending`, `refused`, `synced`. */
  readonly word: "loading" | "offline" | "stalled" | "pending" | "refused" | "synced";
  readonly loaded: boolean;
  readonly connected: boolean;
  /** Whether all that the server had was here, once since the page was opened. */
  readonly caughtUp: boolean;
  /** How many documents wait to be sent, those that are stalled among them. */
  readonly pending: number;
  readonly stalled: number;
  readonly refused: number;
  /** What went wrong last on the device or with the server, and was not fatal. */
  readonly problem?: string;
}

/** What tabs say to each other. */
type Message =
  | { readonly kind: "edit"; readonly updates: readonly Update[] }
  | { readonly kind: "changes"; readonly updates: readonly Update[] }
  | { readonly kind: "replace"; readonly document: string; readonly bytes?: Uint8Array<ArrayBuffer> }
  | { readonly kind: "states"; readonly states: readonly DocumentState[] }
  | { readonly kind: "link"; readonly connected: boolean; readonly caughtUp: boolean }
  | { readonly kind: "refused"; readonly refusals: readonly Refusal[] }
  | { readonly kind: "hello" }
  | { readonly kind: "retry" | "discard"; readonly document: string };

/**
 * A collection of documents that are on this device and, sooner or later, on the server. All calls
 * take effect at once and wait for nothing; none fails because of the network or the server.
 */
export class Collection<Row extends { id: string } = Fields & { id: string }> {
  readonly name: string;
  readonly remote: Remote;
  /** Resolves when what the device has is here. The server is not asked for that. */
  readonly loaded: Promise<void>;
  readonly #environment: Environment;
  readonly #prose: readonly string[];
  /** What rows are read with: those that a device has stored from another reading are read again. */
  readonly #reading: string;
  readonly #documents: Documents;
  readonly #tabs: Tabs;
  readonly #store: Promise<Store>;
  #opened: Store | undefined;
  readonly #listeners = new Set<() => void>();
  readonly #refusalListeners = new Set<(refusal: Refusal) => void>();

  #follower: Follower | undefined;
  #closed = false;
  #loaded = false;
  #connected = false;
  #caughtUp = false;
  #problem: string | undefined;
  #status: Status | undefined;
  /** When rows that were read were told of. */
  #told = -Infinity;
  /** Whether anybody was told of documents yet. */
  #shown = false;
  #tellSoon: number | undefined;
  /** The timer of the rehearsal, until that was. */
  #rehearsal: number | undefined;
  /** How many steps of one change are under way; listeners hear of it at the end. */
  #depth = 0;
  #dirty = false;
  /** Edits that are on their way into the store. */
  #unstored = new Map<string, Uint8Array<ArrayBuffer>[]>();
  #storeSoon = false;
  readonly #storing = new Map<Promise<void>, readonly Update[]>();
  readonly #persistence: Persistence;
  readonly #leaves = (): void => this.#rescue();
  /** How many of the commits under way have edits of a document. */
  readonly #flying = new Map<string, number>();
  /** The numbers of edits this tab made and the outbox has not taken yet. */
  readonly #mine = new Set<number>();
  /** The number of the last edit this tab made of a document, until the server has answered it. */
  readonly #own = new Map<string, number>();
  readonly #states = new Map<string, DocumentState>();
  readonly #refusals = new Map<string, Refusal>();

  constructor({ name, remote, persistence, prose = [], environment = realEnvironment, tabs }: CollectionOptions) {
    this.name = name;
    this.remote = remote;
    this.#environment = environment;
    this.#prose = prose;
    this.#reading = `2 ${[...prose].sort().join(" ")}`;
    this.#documents = new Documents(environment, (document, bytes) => this.#edited(document, bytes), () => this.#touch());
    const join = tabs ?? (persistence.shared ? browserTabs : alone);
    this.#tabs = join(`halcyon/${name}`, (message) => this.#hear(message as Message));
    this.#persistence = persistence;
    this.#store = persistence.open(name, (updates) => this.#hear({ kind: "edit", updates }));
    globalThis.addEventListener?.("pagehide", this.#leaves);
    this.#store.then((store) => (this.#opened = store)).catch(() => {}); // `#load` reports it
    this.loaded = this.#load();
  }

  // ---- Reading

  /** The documents in the order of their ids. The array, and each row in it, is the same until it changes. */
  rows(): readonly Row[] {
    return this.#documents.rows() as unknown as readonly Row[];
  }

  get(document: string): Row | undefined {
    return (this.#documents.row(document) ?? undefined) as Row | undefined;
  }

  /** Calls whenever rows or the status may have changed, until the returned function is called. */
  subscribe(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => this.#listeners.delete(changed);
  }

  // ---- Writing

  /** Adds a document and returns its id, which is a new one unless the row has one. */
  insert(row: Omit<Row, "id"> & { id?: string }): string {
    const { id = newID(this.#environment), ...fields } = row;
    this.#change(id, (doc) => {
      writeFields(doc, { id, ...fields });
      makeProse(doc, this.#prose);
    });
    return id;
  }

  /** Changes fields of a document; one that is undefined is removed. It reports whether there is such a document. */
  update(document: string, fields: Partial<Omit<Row, "id">>): boolean {
    if (!this.#documents.row(document)) return false;
    this.#change(document, (doc) => writeFields(doc, fields as Fields));
    return true;
  }

  /** Deletes a document, for ever. It reports whether there was one. */
  remove(document: string): boolean {
    if (!this.#documents.row(document)) return false;
    this.#change(document, (doc) => isDeleted(doc) || markDeleted(doc, this.#environment.now()));
    return true;
  }

  /**
   * Returns the Y.Doc of a document for an editor, and keeps it until `release`. What is changed
   * in it is stored and sent like all else. When the document is discarded it is destroyed.
   */
  hold(document: string): Y.Doc {
    this.#open();
    const doc = this.#documents.hold(document);
    if (this.#documents.row(document)) this.#change(document, (doc) => makeProse(doc, this.#prose));
    return doc;
  }

  release(document: string): void {
    this.#documents.release(document);
  }

  #open(): void {
    if (this.#closed) throw new Error(`The collection ${this.name} was closed.`);
  }

  #change(document: string, change: (doc: Y.Doc) => void): void {
    this.#open();
    this.#together(() => this.#documents.edit(document, change));
  }

  /** Tells listeners once of all that `run` changes. */
  #together(run: () => void): void {
    this.#depth++;
    try {
      run();
    } finally {
      this.#depth--;
      if (this.#depth === 0 && this.#dirty) this.#touch();
    }
  }

  #touch(): void {
    this.#status = undefined;
    if (this.#depth > 0) {
      this.#dirty = true;
      return;
    }
    this.#dirty = false;
    for (const listener of [...this.#listeners]) listener();
  }

  // ---- Keeping

  /** Takes note of a change that was made here: by a call or in a Y.Doc that somebody holds. */
  #edited(document: string, bytes: Uint8Array<ArrayBuffer>): void {
    const parts = this.#unstored.get(document);
    if (parts) parts.push(bytes);
    else this.#unstored.set(document, [bytes]);
    this.#own.set(document, Infinity);
    if (!this.#storeSoon) {
      this.#storeSoon = true;
      queueMicrotask(() => {
        this.#storeSoon = false;
        this.#storeEdits();
      });
    }
    this.#touch();
  }

  /**
   * Stores the edits of this turn together. It does not wait for what is being stored: what the
   * browser has been given survives the page also where that crashes.
   */
  #storeEdits(): void {
    if (this.#unstored.size === 0 || this.#storing.size >= STORING_MAX) return;
    const updates = [...this.#unstored].map(([document, parts]) => ({ document, bytes: merge(parts) }));
    this.#unstored = new Map();
    for (const { document } of updates) this.#flying.set(document, (this.#flying.get(document) ?? 0) + 1);
    const storing = this.#commitEdits(updates).finally(() => {
      this.#storing.delete(storing);
      this.#storeEdits();
    });
    this.#storing.set(storing, updates);
  }

  /** Keeps what is not stored yet, when the page goes and perhaps does not come back. */
  #rescue(): void {
    const waiting = [...this.#unstored].map(([document, parts]) => ({ document, bytes: merge(parts) }));
    const updates = [...[...this.#storing.values()].flat(), ...waiting];
    if (updates.length > 0) this.#persistence.rescue?.(this.name, updates);
  }

  async #commitEdits(updates: readonly Update[]): Promise<void> {
    let numbers: number[] | undefined;
    try {
      numbers = await (this.#opened ?? (await this.#store)).commit({ edits: updates });
    } catch (error) {
      // The device is full, or the browser does not let us store. What was done is sent all the same.
      this.#report("store an edit", error);
    }
    for (const [i, { document }] of updates.entries()) {
      const flying = (this.#flying.get(document) ?? 1) - 1;
      if (flying > 0) {
        this.#flying.set(document, flying);
        continue;
      }
      this.#flying.delete(document);
      if (!this.#unstored.has(document)) this.#own.set(document, numbers?.[i] ?? 0);
    }
    this.#tabs.post({ kind: "edit", updates } satisfies Message);
    if (!numbers) {
      this.#follower?.addUnstored(updates);
    } else if (this.#follower) {
      for (const n of numbers) this.#mine.add(n);
      this.#follower.scan();
    }
    for (const { document } of updates) this.#forgetOwn(document);
    this.#touch();
  }

  async #load(): Promise<void> {
    let leads = false;
    let lead = (): void => void (leads = true);
    this.#tabs.lead(() => lead());
    let snapshot: Snapshot | undefined;
    try {
      const store = await this.#store;
      // What is read by the tab that speaks with the server is read once: no other adds to it but edits, and tells of these.
      const alone = leads;
      const found = await store.load();
      if (this.#closed) return;
      await this.#absorb(found);
      if (alone) snapshot = found;
    } catch (error) {
      this.#report("load from the device", error);
    }
    if (this.#closed) return;
    this.#loaded = true;
    this.#rehearsal = this.#environment.after(REHEARSAL_MS_MAX, () => this.#rehearse());
    this.#touch();
    this.#tabs.post({ kind: "hello" } satisfies Message);
    if (leads) void this.#lead(snapshot);
    else lead = () => void this.#lead();
  }

  /**
   * Does what the first edit will do, on a document of nobody. A browser compiles a function when it is called first, and of an
   * edit with all of Yjs that takes as long as a frame, which would be that of the user's first click.
   */
  #rehearse(): void {
    this.#rehearsal = undefined;
    const documents = new Documents(this.#environment, () => {}, () => {});
    documents.edit("rehearsal", (doc) => {
      writeFields(doc, { id: "rehearsal" });
      makeProse(doc, this.#prose);
    });
    documents.rows();
    documents.close();
  }

  /** Takes in what is stored, also where some of it is here already. */
  async #absorb({ documents, log, writes, refusals }: Snapshot): Promise<void> {
    const rest = new Map<string, Uint8Array<ArrayBuffer>[]>();
    for (const { document, bytes } of [...log, ...writes, ...refusals]) {
      const parts = rest.get(document);
      if (parts) parts.push(bytes);
      else rest.set(document, [bytes]);
    }
    this.#together(() => {
      for (const { document, bytes, reading, row } of documents) {
        const more = rest.get(document);
        rest.delete(document);
        const known = !more && reading === this.#reading;
        this.#documents.put(document, more ? merge([bytes, ...more]) : bytes, known ? (row as Fields | null) : undefined);
      }
      for (const [document, parts] of rest) this.#documents.put(document, merge(parts));
      for (const { document, n } of writes) {
        if ((this.#states.get(document)?.settled ?? 0) < n) this.#states.set(document, { document, state: "pending", settled: n - 1 });
      }
      for (const refusal of refusals) this.#refusals.set(refusal.document, refusal);
    });
    await this.#readAll();
  }

  /**
   * Reads the rows of new documents, in slices that leave the page time for its user. When there are more documents
   * to come, it may leave it to a later call to tell of the last ones.
   */
  async #readAll(more = false): Promise<void> {
    for (;;) {
      const left = this.#documents.readRows(SLICE_MS);
      const now = this.#environment.now();
      // The first documents are waited for: who has seen none is told of a page as soon as it is there.
      if ((left === 0 && (!more || !this.#shown)) || now - this.#told >= TELL_MS) {
        this.#told = now;
        this.#documents.tell();
        this.#shown ||= this.rows().length > 0;
      }
      if (left === 0) break;
      await new Promise<void>((resolve) => this.#environment.after(0, resolve));
      if (this.#closed) return;
    }
    // What is to come may not come.
    if (more) this.#tellSoon ??= this.#environment.after(TELL_MS, () => (this.#documents.tell(), (this.#tellSoon = undefined)));
  }

  // ---- The server

  async #lead(snapshot?: Snapshot): Promise<void> {
    const store = await this.#store.catch(() => undefined);
    if (this.#closed || !store) return;
    this.#follower = new Follower({
      environment: this.#environment,
      remote: this.remote,
      store,
      documents: this.#documents,
      reading: this.#reading,
      absorb: (snapshot) => this.#absorb(snapshot),
      together: (run) => this.#together(run),
      isOwn: (n) => this.#mine.delete(n),
      breathe: (more) => this.#readAll(more),
      changed: (updates) => this.#tabs.post({ kind: "changes", updates } satisfies Message),
      states: (states) => this.#tell({ kind: "states", states }),
      link: (connected, caughtUp) => this.#tell({ kind: "link", connected, caughtUp }),
      refused: (refusal) => this.#tell({ kind: "refused", refusals: [refusal] }),
      replace: (document, bytes) => this.#tell({ kind: "replace", document, ...(bytes ? { bytes } : {}) }),
      report: (what, error) => this.#report(what, error),
    });
    await this.#follower.start(snapshot);
  }

  /** Tells all tabs, this one too. */
  #tell(message: Message): void {
    this.#tabs.post(message);
    this.#hear(message);
  }

  #hear(message: Message): void {
    if (this.#closed) return;
    switch (message.kind) {
      case "edit":
      case "changes":
        this.#together(() => {
          for (const { document, bytes } of message.updates) this.#documents.apply(document, bytes);
          void this.#readAll();
        });
        if (message.kind === "edit") this.#follower?.scan();
        return;
      case "replace":
        this.#own.delete(message.document);
        this.#refusals.delete(message.document);
        this.#documents.replace(message.document, message.bytes);
        this.#touch();
        return;
      case "states":
        for (const state of message.states) {
          this.#states.set(state.document, state);
          if (state.state !== "refused") this.#refusals.delete(state.document);
          this.#forgetOwn(state.document);
        }
        break;
      case "link":
        this.#connected = message.connected;
        if (message.caughtUp && !this.#caughtUp && this.#rehearsal !== undefined) {
          this.#environment.cancel(this.#rehearsal);
          this.#rehearsal = this.#environment.after(REHEARSAL_MS, () => this.#rehearse());
        }
        this.#caughtUp ||= message.caughtUp;
        break;
      case "refused":
        for (const refusal of message.refusals) {
          this.#refusals.set(refusal.document, refusal);
          for (const listener of [...this.#refusalListeners]) listener(refusal);
        }
        break;
      case "hello":
        this.#follower?.greet();
        return;
      case "retry":
        void this.#follower?.retry(message.document);
        return;
      case "discard":
        void this.#follower?.discard(message.document);
        return;
    }
    this.#touch();
  }

  #forgetOwn(document: string): void {
    const n = this.#own.get(document);
    if (n !== undefined && n <= (this.#states.get(document)?.settled ?? 0)) this.#own.delete(document);
  }

  #report(what: string, error: unknown): void {
    this.#problem = `${what}: ${error instanceof Error ? error.message : String(error)}`;
    this.#touch();
  }

  // ---- Status

  /** How a document stands with the server. */
  stateOf(document: string): SyncState {
    const state = this.#states.get(document)?.state ?? "synced";
    return state !== "stalled" && this.#own.has(document) ? "pending" : state;
  }

  /** How the collection stands with the server. The object is the same until it changes. */
  status(): Status {
    if (this.#status) return this.#status;
    let [pending, stalled, refused] = [0, 0, 0];
    for (const document of new Set([...this.#states.keys(), ...this.#own.keys()])) {
      const state = this.stateOf(document);
      if (state === "pending" || state === "stalled") pending++;
      if (state === "stalled") stalled++;
      if (state === "refused") refused++;
    }
    const word = !this.#loaded
      ? "loading"
      : !this.#connected
        ? "offline"
        : stalled > 0
          ? "stalled"
          : pending > 0
            ? "pending"
            : refused > 0
              ? "refused"
              : "synced";
    const problem = this.#problem === undefined ? {} : { problem: this.#problem };
    this.#status = { word, loaded: this.#loaded, connected: this.#connected, caughtUp: this.#caughtUp, pending, stalled, refused, ...problem };
    return this.#status;
  }

  /** What the server refused and is set aside: shown here, and nowhere else. */
  refusals(): Refusal[] {
    return [...this.#refusals.values()];
  }

  /** Calls with each refusal from now on. */
  onRefused(refused: (refusal: Refusal) => void): () => void {
    this.#refusalListeners.add(refused);
    return () => this.#refusalListeners.delete(refused);
  }

  /** Sends what was refused of a document again. An edit of it does that too. */
  retry(document: string): void {
    this.#tabs.post({ kind: "retry", document } satisfies Message);
    void this.#follower?.retry(document);
  }

  /** Gives up what is not on the server of a document, as soon as the server can be asked for what is. */
  discard(document: string): void {
    this.#tabs.post({ kind: "discard", document } satisfies Message);
    void this.#follower?.discard(document);
  }

  /** Ends the collection in this tab, when what was done is stored. What is not sent is sent by the next that opens it. */
  async close(): Promise<void> {
    this.#storeEdits();
    while (this.#storing.size > 0) await Promise.all(this.#storing.keys());
    if (this.#closed) return;
    this.#closed = true;
    globalThis.removeEventListener?.("pagehide", this.#leaves);
    this.#environment.cancel(this.#tellSoon);
    this.#environment.cancel(this.#rehearsal);
    await this.#follower?.close();
    this.#tabs.close();
    this.#documents.close();
    (await this.#store.catch(() => undefined))?.close();
  }
}
