import * as Y from "yjs";
import type { Documents } from "./documents.js";
import { type Environment, newID } from "./environment.js";
import { merge, own } from "./memory.js";
import { type DocumentState, Outbox } from "./outbox.js";
import type { Changes, Recovered, Remote, ServerChange } from "./remote.js";
import type { Change, Refusal, Snapshot, Store, StoredDocument, Update } from "./store.js";

/** After so many changes on one subscription, or so many bytes, the next begins behind them: each push repeats them all. */
const REPEATED_CHANGES_MAX = 32;
const REPEATED_BYTES_MAX = 32 << 10;
/** How many answers of the server wait to be applied, and how many to be stored, before no more is asked for. */
const AHEAD_MAX = 2;
/** How many documents are compared with the server in one call. */
const RECOVERED_MAX = 1000;
/** How many updates of one document the log has before they are merged into it. */
const LOG_MAX = 64;
/** How often the store is looked through for edits of tabs that died before they could tell. */
const SCAN_MS = 10_000;
/** How long until the server is asked again after a fault, at first and at most. */
const RETRY_MS = 1000;
const RETRY_MS_MAX = 30_000;

export interface FollowerOptions {
  readonly environment: Environment;
  readonly remote: Remote;
  readonly store: Store;
  readonly documents: Documents;
  readonly reading: string;
  absorb(snapshot: Snapshot): Promise<void>;
  together(run: () => void): void;
  /** Whether this tab made the edit of a number, which it asks once. */
  isOwn(n: number): boolean;
  /** Reads rows while the page may do other things in between; `more` says that others follow soon. */
  breathe(more: boolean): Promise<void>;
  changed(updates: readonly Update[]): void;
  states(states: readonly DocumentState[]): void;
  link(connected: boolean, caughtUp: boolean): void;
  refused(refusal: Refusal): void;
  replace(document: string, bytes: Uint8Array<ArrayBuffer> | undefined): void;
  report(what: string, error: unknown): void;
}

/** An answer that waits to be applied, and the request or subscription whose newest it is. */
interface Answer extends Changes {
  readonly of: symbol;
  /** Asks for what comes after it, where there is more. */
  readonly next: () => void;
}

/** The part of a collection that speaks with the server, in the one tab that does. */
export class Follower {
  readonly #options: FollowerOptions;
  readonly #outbox: Outbox;
  readonly #ends: (() => void)[] = [];
  readonly #timers = new Set<number>();
  /** How many updates of each document are in the log. */
  readonly #logged = new Map<string, number>();
  #closed = false;
  /** How far what the server sent has been applied. */
  #cursor = 0;
  #caughtUp = false;
  #compared = false;
  #stop: (() => void) | undefined;
  /** The subscription there is. */
  #following: symbol | undefined;
  #failures = 0;
  /** What the server sent is applied one answer after the other; only the newest of a subscription counts. */
  #waiting: Answer[] = [];
  #applying: Promise<void> | undefined;
  /** The commits of what was applied that are under way. */
  readonly #storing = new Set<Promise<void>>();
  /** Whether something the server sent could not be stored: where the device goes on next time stays before it. */
  #lost = false;
  /** Documents that came whole from the server in this life, of which there is nothing to compare. */
  readonly #brought = new Set<string>();
  /** Whether the device had nothing of the server's, so that what comes is all there is. */
  #empty = false;
  /** The greatest number of a write that was taken from the store. */
  #scanned = 0;
  #scanning: Promise<void> | undefined;
  #scanAgain = false;
  #unstored = 0;
  /** Greets another tab with what changed since the last turn. */
  #states = new Map<string, DocumentState>();

  constructor(options: FollowerOptions) {
    this.#options = options;
    const { environment, remote } = options;
    this.#outbox = new Outbox({
      environment,
      newID: () => newID(environment),
      write: (writes) => remote.write(writes),
      commit: (change) => this.#commit(change),
      state: (document, state, settled) => this.#tellState({ document, state, settled }),
      refused: (refusal) => options.refused(refusal),
      gapped: (document) => void this.#fillGap(document),
    });
  }

  /**
   * Begins. The snapshot is what the device has, if that was read when no other tab spoke with the server any more;
   * otherwise what others have stored is taken in first.
   */
  async start(snapshot?: Snapshot): Promise<void> {
    const { store, remote, absorb, report } = this.#options;
    try {
      if (!snapshot) {
        snapshot = await store.load();
        if (this.#closed) return;
        await absorb(snapshot);
        if (this.#closed) return;
      }
      this.#cursor = snapshot.cursor;
      this.#empty = snapshot.cursor === 0;
      for (const { document } of snapshot.log) this.#count(document);
      for (const refusal of snapshot.refusals) this.#outbox.addRefusal(refusal);
      for (const write of snapshot.writes) {
        this.#scanned = Math.max(this.#scanned, write.n);
        this.#outbox.add(write);
      }
    } catch (error) {
      report("load from the device", error);
    }
    if (this.#closed) return;
    this.#ends.push(remote.onConnection(() => this.#link()));
    this.#link();
    if (this.#empty) this.#fetch();
    else this.#watch();
    this.#every(SCAN_MS, () => this.scan());
    this.scan();
  }

  #link(): void {
    const connected = this.#options.remote.connected();
    this.#outbox.connect(connected);
    this.#options.link(connected, this.#caughtUp);
  }

  /** Tells a tab that has come all it has to know. */
  greet(): void {
    this.#options.states(this.#outbox.states());
    this.#link();
    for (const refusal of this.#outbox.refusals()) this.#options.refused(refusal);
  }

  /** States that change in one turn are told together. */
  #tellState(state: DocumentState): void {
    if (this.#states.size === 0) {
      queueMicrotask(() => {
        const states = [...this.#states.values()];
        this.#states.clear();
        if (!this.#closed) this.#options.states(states);
      });
    }
    this.#states.set(state.document, state);
  }

  // ---- To the server

  /** Takes edits from the store that are not in the outbox, in their order, whoever made them. */
  scan(): void {
    if (this.#scanning) {
      this.#scanAgain = true;
      return;
    }
    this.#scanning = this.#scan().finally(() => {
      this.#scanning = undefined;
      if (!this.#scanAgain) return;
      this.#scanAgain = false;
      if (!this.#closed) this.scan();
    });
  }

  async #scan(): Promise<void> {
    try {
      const writes = await this.#options.store.writesAfter(this.#scanned);
      if (this.#closed) return;
      this.#options.together(() => {
        for (const write of writes) {
          this.#scanned = Math.max(this.#scanned, write.n);
          // One of a tab that died before it could tell is new here too.
          if (!this.#options.isOwn(write.n)) this.#options.documents.apply(write.document, write.bytes);
          this.#outbox.add(write);
        }
        void this.#options.breathe(false);
      });
    } catch (error) {
      this.#options.report("read edits", error);
    }
  }

  /** Takes edits that could not be stored. */
  addUnstored(updates: readonly Update[]): void {
    for (const { document, bytes } of updates) this.#outbox.add({ n: --this.#unstored, document, bytes });
  }

  async #commit(change: Change): Promise<void> {
    for (const { document } of change.log ?? []) this.#count(document);
    const fold = this.#full();
    const { cursor, ...rest } = change;
    try {
      await this.#options.store.commit({ ...rest, ...(cursor === undefined || this.#lost ? {} : { cursor }), ...(fold.length > 0 ? { fold } : {}) });
    } catch (error) {
      // Without it the device is not where the cursor says, and asks for it again when it starts.
      if (change.log?.length || change.documents?.length) this.#lost = true;
      this.#options.report("store what the server said", error);
    }
  }

  #count(document: string): void {
    this.#logged.set(document, (this.#logged.get(document) ?? 0) + 1);
  }

  /** The documents whose log has become long, to be merged with the next commit. */
  #full(): NonNullable<Change["fold"]> {
    const { documents, reading } = this.#options;
    const fold = [];
    for (const [document, entries] of this.#logged) {
      if (entries < LOG_MAX) continue;
      this.#logged.delete(document);
      // A row that has edits in it which are not of the log is not that of the merged state.
      fold.push({ document, entries: this.#outbox.holds(document) ? -1 : entries, reading, row: documents.row(document) });
    }
    return fold;
  }

  /** Sends all that the server lacks of a document in the place of a write that builds on it. */
  async #fillGap(document: string): Promise<void> {
    const { remote, documents, report } = this.#options;
    let missing: Uint8Array<ArrayBuffer> | undefined;
    try {
      const [recovered] = await remote.recover([{ document, vector: documents.vector(document) }]);
      const bytes = documents.bytes(document);
      if (bytes) missing = recovered ? own(Y.diffUpdateV2(bytes, recovered.vector)) : bytes;
    } catch (error) {
      report("compare a document with the server", error);
    }
    if (!this.#closed) await this.#outbox.whole(document, missing);
  }

  retry(document: string): Promise<void> {
    return this.#outbox.retry(document);
  }

  /** Takes the server's state of a document in the place of what is here. */
  async discard(document: string): Promise<void> {
    for (let failures = 0; !this.#closed; failures++) {
      try {
        const [recovered] = await this.#options.remote.recover([{ document }]);
        if (this.#closed) return;
        this.#outbox.forget(document);
        this.#logged.delete(document);
        const bytes = recovered?.bytes;
        await this.#commit({ forget: [document], documents: bytes ? [{ document, bytes }] : [] });
        this.#options.replace(document, bytes);
        return;
      } catch (error) {
        this.#options.report("discard", error);
        await new Promise<void>((resolve) => this.#after(this.#backoff(failures), resolve));
      }
    }
  }

  // ---- From the server

  /**
   * Gets all documents, page by page, and then what has changed since the first one: a document that
   * was written meanwhile comes again, which changes nothing.
   */
  #fetch(cursor?: string, begin?: number): void {
    const [of, current] = this.#ask(() => {});
    this.#options.remote.all(cursor).then(
      ({ documents, seq, cursor }) => {
        if (!current()) return;
        const from = begin ?? seq;
        const next = (): void => (cursor === undefined ? this.#watch(from) : this.#fetch(cursor, from));
        // Until the last is stored the device has nothing to go on from.
        this.#take({ changes: documents, cursor: cursor === undefined ? from : 0, more: true, of, next });
      },
      (error: unknown) => current() && this.#retry("get the documents", error, () => this.#fetch(cursor, begin)),
    );
  }

  /** Follows the changes after a cursor. */
  #watch(cursor = this.#cursor): void {
    let stop = (): void => {};
    const [of, current] = this.#ask(() => stop());
    if (this.#closed) return;
    stop = this.#options.remote.watch(
      cursor,
      (changes) => current() && this.#take({ ...changes, of, next: () => this.#watch(changes.cursor) }),
      (error) => current() && this.#retry("follow the server", error, () => this.#watch(cursor)),
    );
    if (!current()) stop(); // it had the answer at once, and what comes after was asked for
  }

  /** Begins to ask for something in the place of what was asked for before. */
  #ask(stop: () => void): [of: symbol, current: () => boolean] {
    this.#stop?.();
    const of = Symbol("asked");
    this.#following = of;
    this.#stop = stop;
    return [of, () => this.#following === of && !this.#closed];
  }

  #retry(what: string, error: unknown, again: () => void): void {
    this.#options.report(what, error);
    this.#following = undefined;
    this.#after(this.#backoff(this.#failures++), again);
  }

  #take(answer: Answer): void {
    this.#failures = 0;
    const waiting = this.#waiting;
    // A newer one of the same subscription has the same in it, and more.
    if (waiting.at(-1)?.of === answer.of) waiting.pop();
    waiting.push(answer);
    this.#goOn(answer);
    this.#applying ??= this.#applyAll().finally(() => (this.#applying = undefined));
  }

  /** Asks for what comes after the newest answer before that is applied, so that the server has it ready then. */
  #goOn({ more, of, next }: Answer): void {
    if (more && of === this.#following && this.#waiting.length < AHEAD_MAX) next();
  }

  #backoff(failures: number): number {
    const { environment } = this.#options;
    return Math.min(RETRY_MS * 2 ** failures, RETRY_MS_MAX) * (1 + 0.2 * environment.random());
  }

  async #applyAll(): Promise<void> {
    for (let answer = this.#waiting.shift(); answer && !this.#closed; answer = this.#waiting.shift()) {
      const { changes, cursor, more, of } = answer;
      this.#goOn(this.#waiting.at(-1) ?? answer);
      await this.#apply(changes, cursor, more);
      if (this.#closed) return;
      const size = changes.reduce((n, change) => n + change.bytes.length, 0);
      const repeats = changes.length >= REPEATED_CHANGES_MAX || size >= REPEATED_BYTES_MAX;
      if (repeats && !more && this.#following === of && this.#waiting.length === 0) this.#watch();
      if (!more && !this.#caughtUp) {
        this.#caughtUp = true;
        this.#link();
      }
      if (!more && !this.#compared) {
        this.#compared = true;
        void this.#compare();
      }
    }
  }

  /** Applies changes, in slices, and has them stored with the cursor that says so. */
  async #apply(changes: readonly ServerChange[], cursor: number, more = false): Promise<void> {
    const { documents, together, breathe, reading } = this.#options;
    const byDocument = new Map<string, Uint8Array<ArrayBuffer>[]>();
    const gone = new Set<string>();
    for (const { document, bytes, exists } of changes) {
      if (exists === false) gone.add(document);
      else gone.delete(document);
      const parts = byDocument.get(document);
      if (parts) parts.push(bytes);
      else byDocument.set(document, [bytes]);
    }
    const fresh: string[] = [];
    const news: Update[] = [];
    let rowsRead: Promise<void> | undefined;
    together(() => {
      for (const [document, parts] of byDocument) {
        const unknown = !documents.has(document);
        if (unknown && gone.has(document) && isEmpty(merge(parts))) continue;
        const bytes = documents.apply(document, merge(parts));
        if (!bytes) continue;
        news.push({ document, bytes });
        if (!unknown) continue;
        fresh.push(document);
        if (this.#empty && !this.#compared) this.#brought.add(document);
      }
      rowsRead = breathe(more);
    });
    await rowsRead;
    if (this.#closed || (news.length === 0 && gone.size === 0 && cursor === this.#cursor)) return;
    const isFresh = new Set(fresh);
    const put: StoredDocument[] = [];
    const log: Update[] = [];
    for (const update of news) {
      if (!isFresh.has(update.document)) log.push(update);
      // The row is that of the bytes as long as nothing was done to the document while others were read.
      else if (documents.bytes(update.document) === update.bytes) put.push({ ...update, reading, row: documents.row(update.document) });
      else put.push(update);
    }
    this.#cursor = Math.max(this.#cursor, cursor);
    // A document that has not been deleted, and is not there, is one that the user may not see any more. What they did to it is kept, and refused.
    const forget = [...gone].filter((document) => documents.row(document) && !this.#outbox.holds(document));
    for (const document of forget) this.#brought.delete(document);
    // The screen does not wait for the device.
    while (this.#storing.size >= AHEAD_MAX) await Promise.race(this.#storing);
    if (this.#closed) return;
    const storing = this.#keep({ documents: put, log, cursor: this.#cursor }, news).finally(() => this.#storing.delete(storing));
    this.#storing.add(storing);
    if (forget.length === 0) return;
    await storing;
    for (const document of forget) this.#logged.delete(document);
    await this.#commit({ forget });
    for (const document of forget) this.#options.replace(document, undefined);
  }

  /** Stores what was applied. Stores keep the order of the commits they are given. */
  async #keep(change: Change, news: readonly Update[]): Promise<void> {
    await this.#commit(change);
    // Afterwards: a tab that is opened finds a change in the store or hears of it here, and never neither.
    if (news.length > 0 && !this.#closed) this.#options.changed(news);
  }

  /**
   * Compares the documents that the device had with the server, and sends what it lacks: what was made in a life of
   * this client of which nothing is left but the documents, or by a server that forgot.
   */
  async #compare(): Promise<void> {
    const { documents, remote } = this.#options;
    const names = documents.names().filter((document) => !this.#brought.has(document));
    this.#brought.clear();
    for (let failures = 0; names.length > 0 && !this.#closed; ) {
      const some = names.slice(0, RECOVERED_MAX);
      try {
        const asked = [];
        for (const [i, document] of some.entries()) {
          if (i % 50 === 49) await new Promise<void>((resolve) => this.#after(0, resolve));
          asked.push({ document, vector: documents.vector(document) });
        }
        const recovered = await remote.recover(asked);
        if (this.#closed) return;
        await this.#takeRecovered(recovered);
        names.splice(0, some.length);
        failures = 0;
      } catch (error) {
        this.#options.report("compare with the server", error);
        await new Promise<void>((resolve) => this.#after(this.#backoff(failures++), resolve));
      }
    }
  }

  async #takeRecovered(recovered: readonly Recovered[]): Promise<void> {
    const { documents, store } = this.#options;
    const behind = recovered.filter(({ document, vector }) => isAhead(vector, documents.vector(document)));
    await this.#apply(
      behind.flatMap(({ document, bytes }) => (bytes ? [{ document, bytes }] : [])),
      this.#cursor,
    );
    const edits: Update[] = [];
    for (const { document, vector, access = "write" } of recovered) {
      const bytes = documents.bytes(document);
      if (!bytes || access !== "write" || this.#outbox.holds(document)) continue;
      if (isAhead(documents.vector(document), vector)) edits.push({ document, bytes: own(Y.diffUpdateV2(bytes, vector)) });
    }
    if (edits.length === 0) return;
    await store.commit({ edits });
    this.scan();
  }

  // ---- Ending

  #after(ms: number, run: () => void): void {
    if (this.#closed) return;
    const timer = this.#options.environment.after(ms, () => {
      this.#timers.delete(timer);
      run();
    });
    this.#timers.add(timer);
  }

  #every(ms: number, run: () => void): void {
    this.#after(ms, () => {
      run();
      this.#every(ms, run);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#outbox.close();
    this.#stop?.();
    for (const end of this.#ends) end();
    for (const timer of this.#timers) this.#options.environment.cancel(timer);
    await this.#scanning;
    await this.#applying;
    await Promise.all(this.#storing);
  }
}

/** Whether a state vector has something that another has not. */
function isAhead(vector: Uint8Array, other: Uint8Array): boolean {
  const theirs = Y.decodeStateVector(other);
  for (const [client, clock] of Y.decodeStateVector(vector)) if (clock > (theirs.get(client) ?? 0)) return true;
  return false;
}

/** Whether an update has nothing in it: what the server sends of a document that is not for the user any more. */
function isEmpty(update: Uint8Array): boolean {
  const { structs, ds } = Y.decodeUpdateV2(update);
  return structs.length === 0 && ds.clients.size === 0;
}
