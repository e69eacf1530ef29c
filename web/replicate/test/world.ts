/** A world for the client: a clock that tests move, chance by a seed, a server that fails on request, devices with tabs that crash. */

import * as Y from "yjs";
import { Collection } from "../src/collection.js";
import type { Environment } from "../src/environment.js";
import { memory, merge, own } from "../src/memory.js";
import type { Changes, Page, Recovered, Remote, Write, WriteResult } from "../src/remote.js";
import type { Change, Persistence, Store } from "../src/store.js";
import type { JoinTabs } from "../src/tabs.js";

export interface Task {
  id: string;
  title?: string;
  done?: boolean;
  note?: string;
}

/** A generator of random numbers from 0 to below 1, the same for the same seed. */
export function chance(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export class World {
  now = 0;
  readonly random: () => number;
  #timers: { due: number; id: number; run: () => void }[] = [];
  #last = 0;

  constructor(seed = 1) {
    this.random = chance(seed);
  }

  after(ms: number, run: () => void): number {
    this.#timers.push({ due: this.now + ms, id: ++this.#last, run });
    return this.#last;
  }

  cancel(id: number | undefined): void {
    this.#timers = this.#timers.filter((timer) => timer.id !== id);
  }

  /** Waits in the time of the world. */
  wait(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** Lets time pass, running every timer in order and all that follows from it. */
  async pass(ms: number): Promise<void> {
    const end = this.now + ms;
    await settle();
    for (;;) {
      this.#timers.sort((a, b) => a.due - b.due || a.id - b.id);
      const next = this.#timers[0];
      if (!next || next.due > end) break;
      this.#timers.shift();
      this.now = Math.max(this.now, next.due);
      next.run();
      await settle();
    }
    this.now = end;
  }

  pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.random() * list.length)] as T;
  }

  between(least: number, most: number): number {
    return least + this.random() * (most - least);
  }
}

/** Lets every promise that can settle do so. */
export const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** What goes wrong with calls: the probability of each. */
export interface Faults {
  /** The call fails before anything was done. */
  fails: number;
  /** It is done, and the answer is lost. */
  lostAcks: number;
  /** It is done twice. */
  doubled: number;
  /** How long an answer takes, at most. */
  latency: number;
}

const NO_FAULTS: Faults = { fails: 0, lostAcks: 0, doubled: 0, latency: 20 };

/** A server that keeps every update there ever was. */
export class Server {
  faults: Faults = { ...NO_FAULTS };
  /** Whether it takes connections. */
  up = true;
  /** Refuses an update by what the document would be with it. */
  rule: (document: string, after: Y.Doc, before: Y.Doc) => string | undefined = () => undefined;
  /** How many changes, or documents, one answer has at most. */
  pageMax = 1000;
  /** How many writes of one call it has time for. */
  writesMax = 1000;
  /** Answers that every write has gaps. */
  alwaysGapped = false;
  readonly docs = new Map<string, Y.Doc>();
  readonly log: { document: string; bytes: Uint8Array<ArrayBuffer>; seq: number; gone: boolean }[] = [];
  readonly hidden = new Set<string>();
  /** The calls of write, as they came. */
  readonly batches: { at: number; writes: readonly Write[] }[] = [];
  /** How many calls asked for documents, and for how many. */
  readonly recoveries: number[] = [];
  readonly links = new Set<Link>();
  readonly keys = new Set<string>();

  constructor(readonly world: World) {}

  doc(document: string): Y.Doc {
    let doc = this.docs.get(document);
    if (!doc) this.docs.set(document, (doc = new Y.Doc({ guid: document })));
    return doc;
  }

  /** Fields of a document as the server has them. */
  fields(document: string): Record<string, unknown> {
    return this.doc(document).getMap("fields").toJSON() as Record<string, unknown>;
  }

  reset(): void {
    this.faults = { ...NO_FAULTS };
  }

  take(writes: readonly Write[]): WriteResult[] {
    this.batches.push({ at: this.world.now, writes });
    const results = writes.slice(0, this.writesMax).map((write) => this.#takeOne(write));
    for (const link of this.links) link.push();
    return results;
  }

  #takeOne({ id, document, bytes }: Write): WriteResult {
    if (this.keys.has(id)) return { id, status: "known" };
    const before = this.doc(document);
    const after = new Y.Doc({ guid: document });
    Y.applyUpdateV2(after, Y.encodeStateAsUpdateV2(before));
    let changed = false;
    after.on("updateV2", () => (changed = true));
    Y.applyUpdateV2(after, bytes);
    if (this.alwaysGapped || after.store.pendingStructs || after.store.pendingDs) return { id, status: "gapped" };
    if (!changed) return { id, status: "known" };
    const message = this.rule(document, after, before);
    if (message !== undefined) return { id, status: "refused", code: "Forbidden", message };
    this.keys.add(id);
    this.put(document, bytes);
    return { id, status: "applied" };
  }

  /** Appends an update, as from another client. */
  put(document: string, bytes: Uint8Array<ArrayBuffer>): void {
    const doc = this.doc(document);
    Y.applyUpdateV2(doc, bytes);
    this.log.push({ document, bytes, seq: this.log.length + 1, gone: doc.getMap("_meta").get("_deleted") === true });
  }

  after(cursor: number): Changes {
    const rest = this.log.filter(({ seq }) => seq > cursor);
    const page = rest.slice(0, this.pageMax);
    const changes = page.map(({ document, bytes, gone }) =>
      this.hidden.has(document) ? { document, bytes: EMPTY, exists: false } : { document, bytes, exists: !gone },
    );
    return { changes, cursor: page.at(-1)?.seq ?? cursor, more: rest.length > page.length };
  }

  all(cursor = ""): Page {
    const names = [...this.docs.keys()].filter((document) => document > cursor && !this.hidden.has(document)).sort();
    const documents = names.slice(0, this.pageMax).map((document) => {
      const doc = this.doc(document);
      return { document, bytes: own(Y.encodeStateAsUpdateV2(doc)), exists: doc.getMap("_meta").get("_deleted") !== true };
    });
    return { documents, seq: this.log.length, ...(names.length > documents.length ? { cursor: documents.at(-1)?.document as string } : {}) };
  }

  recover(documents: readonly { document: string; vector?: Uint8Array }[]): Recovered[] {
    this.recoveries.push(documents.length);
    return documents.map(({ document, vector }) => {
      if (this.hidden.has(document)) return { document, vector: new Uint8Array([0]), access: "none" };
      const doc = this.docs.get(document);
      if (!doc) return { document, vector: new Uint8Array([0]), access: "write" };
      return { document, bytes: own(Y.encodeStateAsUpdateV2(doc, vector)), vector: Y.encodeStateVector(doc), access: "write" };
    });
  }

  /** Stops it, as a restart does: all connections are gone, and it keeps what it had answered. */
  stop(): void {
    this.up = false;
    for (const link of this.links) link.reconnect();
  }

  start(): void {
    this.up = true;
    for (const link of this.links) link.reconnect();
  }
}

const EMPTY = own(Y.encodeStateAsUpdateV2(new Y.Doc()));

/** One client's connection. Like the official client's it holds calls while there is none. */
export class Link implements Remote {
  /** Whether the device has a network. */
  online = true;
  dead = false;
  #changed = new Set<() => void>();
  #held: (() => void)[] = [];
  #watches = new Set<{ cursor: number; take: (changes: Changes) => void; sent: number }>();

  constructor(readonly server: Server) {
    server.links.add(this);
  }

  connected(): boolean {
    return this.online && this.server.up && !this.dead;
  }

  onConnection(changed: () => void): () => void {
    this.#changed.add(changed);
    return () => this.#changed.delete(changed);
  }

  setOnline(online: boolean): void {
    this.online = online;
    this.reconnect();
  }

  /** Tells what the connection has become. */
  reconnect(): void {
    for (const changed of this.#changed) changed();
    if (!this.connected()) return;
    const held = this.#held;
    this.#held = [];
    for (const run of held) run();
    this.push();
  }

  async #connected(): Promise<void> {
    while (!this.connected()) await new Promise<void>((resolve) => this.#held.push(resolve));
  }

  async #call<T>(run: () => T): Promise<T> {
    const { world, faults } = this.server;
    await this.#connected();
    await world.wait(world.random() * faults.latency);
    if (this.dead) return new Promise<never>(() => {});
    if (world.random() < faults.fails) throw new Error("the server failed");
    await this.#connected(); // sent again, as the client does
    const result = run();
    if (world.random() < faults.doubled) run();
    await world.wait(world.random() * faults.latency);
    if (this.dead) return new Promise<never>(() => {});
    if (world.random() < faults.lostAcks) throw new Error("the answer was lost");
    await this.#connected();
    return result;
  }

  write(writes: readonly Write[]): Promise<readonly WriteResult[]> {
    return this.#call(() => this.server.take(writes));
  }

  all(cursor?: string): Promise<Page> {
    return this.#call(() => this.server.all(cursor));
  }

  recover(documents: readonly { document: string; vector?: Uint8Array }[]): Promise<Recovered[]> {
    return this.#call(() => this.server.recover(documents));
  }

  watch(cursor: number, take: (changes: Changes) => void): () => void {
    const watch = { cursor, take, sent: -1 };
    this.#watches.add(watch);
    void this.server.world.wait(this.server.world.random() * this.server.faults.latency).then(() => this.push());
    return () => this.#watches.delete(watch);
  }

  /** Sends the newest result of each subscription that has not had it. */
  push(): void {
    for (const watch of this.#watches) {
      const { length } = this.server.log;
      if (!this.connected() || watch.sent === length) continue;
      watch.sent = length;
      this.server.world.after(this.server.world.random() * this.server.faults.latency, () => {
        if (!this.dead && this.#watches.has(watch)) watch.take(this.server.after(watch.cursor));
      });
    }
  }

  presence(): Promise<unknown> {
    return Promise.resolve(null);
  }

  watchPresence(): () => void {
    return () => {};
  }
}

/** A browser or a phone: what it stores stays, its tabs come and go. */
export class Device {
  readonly tabs = new Set<Tab>();
  readonly memory = memory();
  /** Edits that were stored: these must never be lost. */
  readonly stored: { document: string; bytes: Uint8Array<ArrayBuffer> }[] = [];
  /** How long storing takes at most. */
  storeLatency = 4;
  /** Whether the disk is full. */
  full = false;
  online = true;
  holder: Tab | undefined;
  waiting: Tab[] = [];

  constructor(
    readonly world: World,
    readonly server: Server,
    readonly name: string,
  ) {}

  open(): Tab {
    const tab = new Tab(this);
    this.tabs.add(tab);
    return tab;
  }

  setOnline(online: boolean): void {
    this.online = online;
    for (const tab of this.tabs) tab.link.setOnline(online);
  }

  /** Gives the lock to the next who waits for it. */
  pass(from: Tab): void {
    this.waiting = this.waiting.filter((tab) => tab !== from);
    if (this.holder !== from) return;
    this.holder = undefined;
    const next = this.waiting.shift();
    if (!next) return;
    this.holder = next;
    this.world.after(0, () => next.alive && next.begin?.());
  }

  async writes(): Promise<number> {
    return (await (await this.memory.open("tasks")).load()).writes.length;
  }
}

export class Tab {
  alive = true;
  begin: (() => void) | undefined;
  readonly link: Link;
  readonly collection: Collection<Task>;
  #hear: ((message: unknown) => void) | undefined;

  constructor(readonly device: Device) {
    const { world, server } = device;
    this.link = new Link(server);
    this.link.online = device.online;
    const environment: Environment = {
      now: () => world.now,
      random: () => world.random(),
      after: (ms, run) => world.after(ms, () => this.alive && run()),
      cancel: (timer) => world.cancel(timer),
    };
    const persistence: Persistence = { shared: true, open: async (name) => this.#store(await device.memory.open(name)) };
    const tabs: JoinTabs = (_name, hear) => {
      this.#hear = hear;
      return {
        post: (message) => {
          if (!this.alive) return;
          const copy = structuredClone(message);
          for (const other of device.tabs) if (other !== this) world.after(0, () => other.alive && other.#hear?.(copy));
        },
        lead: (begin) => {
          this.begin = begin;
          if (device.holder) device.waiting.push(this);
          else {
            device.holder = this;
            world.after(0, () => this.alive && begin());
          }
        },
        close: () => {
          device.tabs.delete(this);
          device.pass(this);
        },
      };
    };
    this.collection = new Collection<Task>({ name: "tasks", prose: ["note"], remote: this.link, persistence, environment, tabs });
  }

  /** The store as this tab reaches it: slowly, and no longer when it has crashed. */
  #store(store: Store): Store {
    const { device } = this;
    const never = new Promise<never>(() => {});
    // Transactions of one store are one after the other.
    let last: Promise<unknown> = Promise.resolve();
    const inTurn = <T>(run: () => Promise<T>): Promise<T> => {
      const turn = last.then(async () => {
        await device.world.wait(device.world.random() * device.storeLatency);
        return this.alive ? run() : never;
      });
      last = turn.catch(() => {});
      return turn;
    };
    return {
      load: () => inTurn(() => store.load()),
      writesAfter: (n) => inTurn(() => store.writesAfter(n)),
      commit: (change: Change) =>
        inTurn(async () => {
          if (device.full) throw new Error("QuotaExceededError");
          device.stored.push(...(change.edits ?? []));
          return store.commit(change);
        }),
      close: () => {},
    };
  }

  /** Ends at once, whatever was under way. */
  crash(): void {
    this.alive = false;
    this.link.dead = true;
    this.link.server.links.delete(this.link);
    this.device.tabs.delete(this);
    this.device.pass(this);
  }

  async close(): Promise<void> {
    await this.collection.close();
    this.link.dead = true;
    this.link.server.links.delete(this.link);
    this.alive = false;
  }
}

/** The merge of updates as a document. */
export function docOf(updates: readonly Uint8Array<ArrayBuffer>[]): Y.Doc {
  const doc = new Y.Doc();
  if (updates.length > 0) Y.applyUpdateV2(doc, merge(updates));
  return doc;
}

/** Whether two documents have the same operations, those that were deleted included. */
export function equal(a: Y.Doc, b: Y.Doc): boolean {
  return Y.equalSnapshots(Y.snapshot(a), Y.snapshot(b));
}
