import assert from "node:assert/strict";
import test from "node:test";
import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import * as Y from "yjs";
import { indexedDB } from "../src/indexeddb.js";
import { memory, merge, own } from "../src/memory.js";
import type { Change, Snapshot, Store, Update } from "../src/store.js";
import { chance } from "./world.js";

globalThis.IDBKeyRange = IDBKeyRange;

/** Makes updates of documents, each building on the one before. */
function updates(): (document: string) => Update {
  const docs = new Map<string, Y.Doc>();
  let n = 0;
  return (document) => {
    let doc = docs.get(document);
    if (!doc) docs.set(document, (doc = new Y.Doc()));
    const before = Y.encodeStateVector(doc);
    doc.getMap("fields").set("n", ++n);
    return { document, bytes: own(Y.encodeStateAsUpdateV2(doc, before)) };
  };
}

/**
 * What a snapshot says, in an order of its own and without what merges may write differently, nor where updates of a
 * document are. A row counts for a document of which there is nothing else.
 */
function content({ documents, log, writes, refusals, cursor }: Snapshot): unknown {
  const parts = new Map<string, Uint8Array<ArrayBuffer>[]>();
  for (const { document, bytes } of [...documents, ...log]) parts.set(document, [...(parts.get(document) ?? []), bytes]);
  const text = (bytes: Uint8Array): string => {
    const doc = new Y.Doc();
    Y.applyUpdateV2(doc, bytes);
    return `${JSON.stringify(doc.getMap("fields").toJSON())} ${JSON.stringify([...Y.decodeStateVector(Y.encodeStateVector(doc))])} ${doc.store.pendingStructs !== null}`;
  };
  assert.equal(new Set(documents.map(({ document }) => document)).size, documents.length, "a document is there once");
  return {
    states: [...parts].map(([document, parts]) => `${document} ${text(merge(parts))}`).sort(),
    rows: documents.filter(({ document }) => parts.get(document)?.length === 1).map(({ document, reading, row }) => ({ document, reading, row })),
    writes: writes.map(({ n, document, id, bytes }) => ({ n, document, id, size: bytes.length })),
    refusals: refusals.map(({ document, code }) => `${document} ${code}`).sort(),
    cursor,
  };
}

function randomChange(random: () => number, update: (document: string) => Update, numbers: number[]): Change {
  const document = (): string => "abcd"[Math.floor(random() * 4)] as string;
  const roll = random();
  if (roll < 0.3) return { edits: [update(document()), update(document())] };
  if (roll < 0.5) return { log: [update(document()), update(document())], cursor: Math.floor(random() * 1000) };
  if (roll < 0.6) return { documents: [{ ...update(document()), reading: "1", row: { title: "x" } }, update(document())] };
  // Many at once.
  const many = (): string => `m${Math.floor(random() * 60)}`;
  if (roll < 0.65) return { documents: Array.from({ length: 20 }, () => ({ ...update(many()), reading: "1", row: { title: "many" } })), cursor: 1 };
  if (roll < 0.68) return { log: [update(many())] };
  if (roll < 0.7) return { forget: [many(), many()] };
  if (roll < 0.75) {
    const [n, ...drop] = numbers.splice(0, 3).sort((a, b) => b - a);
    return n === undefined ? {} : { writes: [{ n, id: `key ${n}`, ...update(document()) }], drop };
  }
  if (roll < 0.85) return { fold: [{ document: document(), entries: Math.floor(random() * 3), reading: "1", row: { title: "folded" } }] };
  if (roll < 0.9) return { refusals: [{ ...update(document()), code: "No", message: "No.", at: 1 }] };
  if (roll < 0.95) return { accepted: [document()] };
  return { forget: [document()], documents: [update(document())] };
}

test("IndexedDB and memory keep the same, over reopening", async () => {
  const seed = Date.now() % 1e9;
  const random = chance(seed);
  const factory = new IDBFactory();
  for (let round = 0; round < 2; round++) {
    const name = `round ${round}`;
    const [model, real] = [memory(), indexedDB({ factory })];
    let stores: [Store, Store] = [await model.open(name), await real.open(name)];
    const update = updates();
    const numbers: number[] = [];
    for (let step = 0; step < 120; step++) {
      const change = randomChange(random, update, numbers);
      const [want, got] = await Promise.all(stores.map((store) => store.commit(change)));
      assert.deepEqual(got, want, `seed ${seed}, numbers of step ${step}`);
      numbers.push(...(want as number[]));
      if (step % 10 > 0) continue;
      const [a, b] = await Promise.all(stores.map((store) => store.load()));
      const [want2, got2] = [content(a as Snapshot), content(b as Snapshot)] as [{ rows: { document: string }[] }, { rows: { document: string }[] }];
      // IndexedDB may have several parts of what memory has merged, and then no row of it.
      const known = new Map(want2.rows.map((row) => [row.document, row]));
      for (const row of got2.rows) assert.deepEqual(row, known.get(row.document), `seed ${seed}, step ${step}`);
      assert.deepEqual({ ...got2, rows: [] }, { ...want2, rows: [] }, `seed ${seed}, step ${step}`);
      const after = Math.floor(random() * 10);
      const [c, d] = await Promise.all(stores.map((store) => store.writesAfter(after)));
      assert.deepEqual(d?.map(({ n }) => n), c?.map(({ n }) => n));
      if (random() < 0.3) {
        for (const store of stores) store.close();
        stores = [await model.open(name), await real.open(name)];
      }
    }
  }
});

test("a commit of IndexedDB that fails changes nothing", async () => {
  const store = await indexedDB({ factory: new IDBFactory() }).open("tasks");
  const update = updates();
  await store.commit({ edits: [update("a")], cursor: 1 });
  const before = await store.load();
  const bad = { n: 1, document: "a", bytes: (() => {}) as never }; // what can't be cloned
  await assert.rejects(store.commit({ edits: [update("a")], cursor: 2, writes: [bad] }));
  assert.deepEqual(content(await store.load()), content(before));
  store.close();
  await assert.rejects(store.commit({ cursor: 3 }));
});

test("a store that is new can be read before the browser has made it, and keeps the order of what it is given", async () => {
  const factory = new IDBFactory();
  let made = false;
  const slow = {
    open(name: string, version: number): IDBOpenDBRequest {
      const request = factory.open(name, version);
      request.addEventListener("success", () => (made = true));
      return request;
    },
  } as unknown as IDBFactory;
  const store = await indexedDB({ factory: slow }).open("tasks");
  assert.equal(made, false, "the store is there before the database");
  assert.deepEqual(await store.load(), { documents: [], log: [], writes: [], refusals: [], cursor: 0 });
  const update = updates();
  const [first, second, writes] = await Promise.all([store.commit({ edits: [update("a")] }), store.commit({ edits: [update("b")], cursor: 7 }), store.writesAfter(0)]);
  assert.deepEqual([first, second], [[1], [2]]);
  assert.deepEqual(writes.map(({ document }) => document), ["a", "b"]);
  assert.equal(made, true);
  assert.equal((await store.load()).cursor, 7);
  store.close();

  const again = await indexedDB({ factory }).open("tasks");
  assert.equal((await again.load()).writes.length, 2, "one that is not new is read");
  again.close();
});

test("a store that the browser can't make says so to who stores something", async () => {
  const factory = new IDBFactory();
  const full = {
    open(name: string, version: number): IDBOpenDBRequest {
      const request = factory.open(name, version);
      request.addEventListener("upgradeneeded", () => queueMicrotask(() => request.transaction?.abort()));
      return request;
    },
  } as unknown as IDBFactory;
  const store = await indexedDB({ factory: full }).open("tasks");
  await assert.rejects(store.commit({ cursor: 1 }));
  await assert.rejects(store.writesAfter(0));
  store.close();
});

/** A localStorage. */
function pageStorage(): Storage {
  const items: Record<string, string> = {};
  const methods = {
    getItem: (key: string) => items[key] ?? null,
    setItem: (key: string, value: string) => void (items[key] = value),
    removeItem: (key: string) => void delete items[key],
  };
  return new Proxy(items, { get: (_, key) => methods[key as keyof typeof methods] }) as unknown as Storage;
}

test("edits of a page that goes before they are stored are there when the collection is opened again, once", async () => {
  const storage = pageStorage();
  const persistence = indexedDB({ factory: new IDBFactory(), storage: () => storage });
  const update = updates();
  const [stored, first, second, other] = [update("a"), update("a"), update("b"), update("c")];
  const store = await persistence.open("tasks");
  await store.commit({ edits: [stored] });
  persistence.rescue?.("tasks", [first]);
  persistence.rescue?.("tasks", [stored, second]); // one that was stored after all
  persistence.rescue?.("others", [other]);
  for (const text of ["no JSON", "5", "[1]"]) storage.setItem(`halcyon/tasks/rescued/${text}`, text); // keeps nobody from opening it
  store.close();

  const again = await persistence.open("tasks");
  const snapshot = await again.load();
  assert.deepEqual(snapshot.writes.map(({ document, bytes }) => [document, [...bytes]]).sort(), [stored, first, stored, second].map(({ document, bytes }) => [document, [...bytes]]).sort());
  assert.deepEqual((await again.load()).writes, snapshot.writes);
  assert.deepEqual(Object.keys(storage).map((key) => key.slice(0, 24)), ["halcyon/others/rescued/0"]);
});

test("edits of a page that went are shown where there is no room for them", async () => {
  const storage = pageStorage();
  const factory = new IDBFactory();
  const persistence = indexedDB({ factory, storage: () => storage });
  const edit = updates()("a");
  persistence.rescue?.("tasks", [edit]);
  const store = await persistence.open("tasks");
  store.commit = () => Promise.reject(new Error("QuotaExceededError"));
  assert.deepEqual((await store.load()).log, [edit]);
  assert.equal(Object.keys(storage).length, 1, "it is kept");
});
