import type { Environment } from "./environment.js";
import { merge } from "./memory.js";
import type { Write, WriteResult } from "./remote.js";
import type { Change, Refusal, StoredWrite } from "./store.js";

/** How long edits of one document are gathered before they are sent. */
export const COALESCE_MS = 50;
/** The least time between two batches. */
export const BATCH_MS = 100;
/** How much one batch has at most. A single write may be larger. */
export const BATCH_WRITES_MAX = 100;
export const BATCH_BYTES_MAX = 1 << 20;
/** After so many failures in a row a document is stalled. */
export const QUICK_TRIES = 5;
const RETRY_MS = 1000;
const JITTER = 0.2;
/** A stalled document is tried again so often, and whenever a connection is made. */
export const STALLED_RETRY_MS = 60_000;
/** After so long without an answer on a connection that stands, a batch has failed. */
const ANSWER_MS = 60_000;

/** How a document stands with the server: it has all; it will get more; it did not take it five times; it will not take it. */
export type SyncState = "synced" | "pending" | "stalled" | "refused";

export interface DocumentState {
  readonly document: string;
  readonly state: SyncState;
  /** The greatest number of an edit that the server has answered. */
  readonly settled: number;
}

/** What waits to be sent of one document, in order. */
interface Lane {
  readonly document: string;
  /** The first may be frozen: it has an id and has perhaps been sent, so its bytes stay as they are. */
  writes: StoredWrite[];
  refusal?: Refusal;
  /** Failures in a row. */
  failures: number;
  /** When to send next. */
  due: number;
  state: SyncState;
  /** The greatest number that the server has confirmed or refused. */
  settled: number;
}

export interface OutboxOptions {
  readonly environment: Environment;
  readonly newID: () => string;
  write(writes: readonly Write[]): Promise<readonly WriteResult[]>;
  /** Stores a change. It never rejects: what could not be stored is reported by it. */
  commit(change: Change): Promise<void>;
  /** Hears when the state of a document has changed, or what of it is settled. */
  state(document: string, state: SyncState, settled: number): void;
  refused(refusal: Refusal): void;
  /** The server lacks what the write builds on: `whole` is to be called with all it lacks. */
  gapped(document: string): void;
}

/**
 * The queue of writes to the server, run by one tab. For each document one write is under way
 * at a time, and edits made meanwhile are merged into the next; nothing is ever dropped.
 * A write is stored with its key before it is sent, and goes only when the server has said
 * what became of it.
 */
export class Outbox {
  readonly #options: OutboxOptions;
  readonly #lanes = new Map<string, Lane>();
  #connected = false;
  #sending = false;
  #closed = false;
  #timer: number | undefined;
  #nextBatch = 0;
  /** Halved when a batch fails, so that one document which the server fails at does not hold up others. */
  #batchMax = BATCH_WRITES_MAX;

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  /** Adds a stored edit, after those of its document that were added before. */
  add(write: StoredWrite): void {
    const lane = this.#lane(write.document);
    if (lane.writes.length === 0) {
      lane.due = this.#options.environment.now() + COALESCE_MS;
      lane.failures = 0;
    }
    lane.writes.push(write);
    this.#set(lane, lane.state === "stalled" ? "stalled" : "pending");
    this.#pump();
  }

  /** Adds a refusal that was stored. */
  addRefusal(refusal: Refusal): void {
    const lane = this.#lane(refusal.document);
    lane.refusal = refusal;
    if (lane.writes.length === 0) this.#set(lane, "refused");
  }

  refusal(document: string): Refusal | undefined {
    return this.#lanes.get(document)?.refusal;
  }

  refusals(): Refusal[] {
    return [...this.#lanes.values()].flatMap((lane) => lane.refusal ?? []);
  }

  /** Whether something of the document waits or was set aside. */
  holds(document: string): boolean {
    const lane = this.#lanes.get(document);
    return lane !== undefined && (lane.writes.length > 0 || lane.refusal !== undefined);
  }

  /** Sends what was refused once more. */
  async retry(document: string): Promise<void> {
    const lane = this.#lanes.get(document);
    if (!lane?.refusal || lane.writes.length > 0) return;
    // Numbers below 1 are not the store's; put under one, it is in the order before all new edits.
    const write = { n: -this.#options.environment.now(), document, bytes: lane.refusal.bytes };
    delete lane.refusal;
    this.add(write);
    await this.#options.commit({ writes: [write], accepted: [document] });
  }

  /** Forgets a document, because its edits are given up. */
  forget(document: string): void {
    const lane = this.#lanes.get(document);
    if (!lane) return;
    for (const write of lane.writes) lane.settled = Math.max(lane.settled, write.n);
    lane.writes = [];
    delete lane.refusal;
    this.#set(lane, "synced");
  }

  /** The states of all documents that are not synced. */
  states(): DocumentState[] {
    return [...this.#lanes.values()].map(({ document, state, settled }) => ({ document, state, settled }));
  }

  /** Tells whether there is a connection. With a new one everything is tried at once. */
  connect(connected: boolean): void {
    if (connected && !this.#connected) this.#tryAll();
    this.#connected = connected;
    this.#pump();
  }

  #tryAll(): void {
    const now = this.#options.environment.now();
    for (const lane of this.#lanes.values()) {
      if (lane.writes.length === 0) continue;
      lane.failures = 0;
      lane.due = Math.min(lane.due, now);
      this.#set(lane, "pending");
    }
  }

  close(): void {
    this.#closed = true;
    this.#options.environment.cancel(this.#timer);
  }

  #lane(document: string): Lane {
    let lane = this.#lanes.get(document);
    if (!lane) this.#lanes.set(document, (lane = { document, writes: [], failures: 0, due: 0, state: "synced", settled: 0 }));
    return lane;
  }

  #set(lane: Lane, state: SyncState): void {
    if (lane.state === state) return;
    lane.state = state;
    this.#options.state(lane.document, state, lane.settled);
  }

  /** Sends what is due, or sets the timer to the moment when something is. */
  #pump(): void {
    const { environment } = this.#options;
    environment.cancel(this.#timer);
    this.#timer = undefined;
    if (this.#closed || !this.#connected || this.#sending) return;
    const now = environment.now();
    const ready: Lane[] = [];
    let next = Infinity;
    for (const lane of this.#lanes.values()) {
      if (lane.writes.length === 0) continue;
      if (lane.due <= now) ready.push(lane);
      else next = Math.min(next, lane.due);
    }
    if (ready.length > 0) next = this.#nextBatch;
    if (next === Infinity) return;
    if (next > now) {
      this.#timer = environment.after(next - now, () => this.#pump());
      return;
    }
    this.#sending = true;
    void this.#send(ready).finally(() => {
      this.#sending = false;
      this.#pump();
    });
  }

  async #send(ready: Lane[]): Promise<void> {
    const { environment, commit } = this.#options;
    this.#nextBatch = environment.now() + BATCH_MS;
    ready.sort((a, b) => a.due - b.due);
    const batch = new Map<string, { lane: Lane; write: StoredWrite & Write }>();
    const change = { writes: [] as StoredWrite[], drop: [] as number[], accepted: [] as string[] };
    let size = 0;
    for (const lane of ready) {
      if (batch.size >= this.#batchMax) break;
      const bytes = lane.writes.reduce((n, write) => n + write.bytes.length, 0);
      if (batch.size > 0 && size + bytes > BATCH_BYTES_MAX) continue;
      size += bytes;
      const write = this.#freeze(lane, change);
      batch.set(write.id, { lane, write });
    }
    // Before it is sent, so that it has the same key after a crash.
    if (change.writes.length > 0) await commit(change);
    if (this.#closed) return;
    let results: readonly WriteResult[] | undefined;
    try {
      results = await this.#answer([...batch.values()].map(({ write: { id, document, bytes } }) => ({ id, document, bytes })));
    } catch {
      results = undefined;
    }
    if (this.#closed) return;
    if (results) this.#batchMax = Math.min(BATCH_WRITES_MAX, this.#batchMax * 2);
    else this.#batchMax = Math.max(1, batch.size >> 1);
    const done = { drop: [] as number[], log: [] as StoredWrite[], refusals: [] as Refusal[] };
    for (const result of results ?? []) {
      const sent = batch.get(result.id);
      if (!sent) continue;
      batch.delete(result.id);
      this.#settle(sent.lane, sent.write, result, done);
    }
    for (const { lane, write } of batch.values()) {
      if (lane.writes[0] !== write) continue;
      // A server that had no time for all of a batch says nothing of the last ones. No answer at all is a failure.
      if (results?.length) lane.due = environment.now();
      else this.#fail(lane);
    }
    if (done.drop.length > 0) await commit(done);
  }

  /** Makes one write of all that waits, with a key. */
  #freeze(lane: Lane, change: { writes: StoredWrite[]; drop: number[]; accepted: string[] }): StoredWrite & Write {
    const first = lane.writes[0] as StoredWrite;
    if (first.id !== undefined) return first as StoredWrite & Write;
    const parts = lane.writes.map((write) => write.bytes);
    if (lane.refusal) {
      // What was refused goes along with what came after it, which builds on it.
      parts.unshift(lane.refusal.bytes);
      change.accepted.push(lane.document);
      delete lane.refusal;
    }
    // Its number is the greatest of the edits in it, so that whoever made one knows by the number when it is settled.
    const n = Math.max(...lane.writes.map((write) => write.n));
    const write = { n, document: lane.document, bytes: merge(parts), id: this.#options.newID() };
    change.writes.push(write);
    for (const old of lane.writes) if (old.n !== n) change.drop.push(old.n);
    lane.writes = [write];
    return write;
  }

  /** Waits for the answer to a batch. */
  #answer(writes: Write[]): Promise<readonly WriteResult[]> {
    const { environment, write } = this.#options;
    return new Promise((resolve, reject) => {
      const wait = (): void => {
        timer = environment.after(ANSWER_MS, () => {
          // Without a connection the client still has the call, and makes it when there is one.
          if (this.#closed || this.#connected) reject(new Error("no answer"));
          else wait();
        });
      };
      let timer = 0;
      wait();
      write(writes)
        .then(resolve, reject)
        .finally(() => environment.cancel(timer));
    });
  }

  #settle(lane: Lane, write: StoredWrite, result: WriteResult, done: { drop: number[]; log: StoredWrite[]; refusals: Refusal[] }): void {
    if (lane.writes[0] !== write) return; // given up meanwhile
    if (result.status === "gapped") {
      lane.due = Infinity; // until `whole`
      this.#options.gapped(lane.document);
      return;
    }
    lane.failures = 0;
    lane.due = this.#options.environment.now();
    lane.writes.shift();
    lane.settled = Math.max(lane.settled, write.n);
    done.drop.push(write.n);
    if (result.status === "refused") {
      const bytes = lane.refusal ? merge([lane.refusal.bytes, write.bytes]) : write.bytes;
      const { code = "Refused", message = "The server refused this change." } = result;
      lane.refusal = { document: lane.document, bytes, code, message, at: this.#options.environment.now() };
      done.refusals.push(lane.refusal);
      this.#options.refused(lane.refusal);
    } else {
      done.log.push(write);
    }
    lane.state = lane.writes.length > 0 ? "pending" : lane.refusal ? "refused" : "synced";
    this.#options.state(lane.document, lane.state, lane.settled);
  }

  /** Sets the next try of a document whose write has failed. */
  #fail(lane: Lane): void {
    const { environment } = this.#options;
    lane.failures++;
    const stalled = lane.failures >= QUICK_TRIES;
    const delay = stalled ? STALLED_RETRY_MS : RETRY_MS * 2 ** (lane.failures - 1);
    lane.due = environment.now() + delay * (1 + JITTER * environment.random());
    if (stalled) this.#set(lane, "stalled");
  }

  /**
   * Takes all that the server lacks of a document in the place of a write that it found gaps in,
   * or, if nothing is given, tries again later.
   */
  async whole(document: string, bytes: Uint8Array<ArrayBuffer> | undefined): Promise<void> {
    const lane = this.#lanes.get(document);
    const first = lane?.writes[0];
    if (!lane || !first) return;
    // A server that finds gaps over and over is one that fails.
    this.#fail(lane);
    if (bytes) {
      const { id: _, ...rest } = first;
      const write = { ...rest, bytes: merge([bytes, first.bytes]) };
      lane.writes[0] = write;
      if (lane.failures === 1) lane.due = this.#options.environment.now();
      await this.#options.commit({ writes: [write] });
    }
    this.#pump();
  }
}
