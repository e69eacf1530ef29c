import assert from "node:assert/strict";
import test from "node:test";
import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import * as Y from "yjs";
import { indexedDB } from "../src/indexeddb.js";
import { memory, own } from "../src/memory.js";
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

/** What a snapshot says, in an order of its own and without what merges may write differently. */
function content({ documents, log, writes, refusals, cursor }: Snapshot): unknown {
  const rows = documents.map(({ document, reading, row }) => ({ document, reading, row }));
  const text = (bytes: Uint8Array): string => {
    const doc = new Y.Doc();
    Y.applyUpdateV2(doc, bytes);
    return `${JSON.stringify(doc.getMap("fields").toJSON())} ${bytes.length}`;
  };
  return {
    rows: rows.sort((a, b) => (a.document < b.document ? -1 : 1)),
    states: documents.map(({ document, bytes }) => `${document} ${text(bytes)}`).sort(),
    log: log.map(({ document, bytes }) => `${document} ${bytes.length}`),
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
  if (roll < 0.65) return { documents: [{ ...update(document()), reading: "1", row: { title: "x" } }, update(document())] };
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
      assert.deepEqual(content(b as Snapshot), content(a as Snapshot), `seed ${seed}, step ${step}`);
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
