import assert from "node:assert/strict";
import test from "node:test";
import * as Y from "yjs";
import { glance } from "../src/glance.js";
import { fieldsOf, makeProse, markDeleted, readRow, writeFields } from "../src/material.js";
import { own } from "../src/memory.js";
import { chance } from "./world.js";

/** The row of a state as Yjs reads it. */
function slow(document: string, state: Uint8Array): unknown {
  const doc = new Y.Doc();
  Y.applyUpdateV2(doc, state);
  return readRow(document, doc);
}

const stateOf = (change: (doc: Y.Doc) => void): Uint8Array => {
  const doc = new Y.Doc();
  change(doc);
  return Y.encodeStateAsUpdateV2(doc);
};

test("documents of one writer are read at a glance", () => {
  const cases: [string, (doc: Y.Doc) => void][] = [
    ["as the client inserts them", (doc) => doc.transact(() => (writeFields(doc, { id: "a", title: "milk", done: false }), makeProse(doc, ["note"])))],
    ["written over", (doc) => ["milk", "bread", "milk"].forEach((title) => writeFields(doc, { title, n: null, list: [1, { a: "b" }], bytes: new Uint8Array([1]) }))],
    ["a field removed", (doc) => (writeFields(doc, { title: "milk", done: true }), writeFields(doc, { done: undefined }))],
    ["all fields removed", (doc) => (writeFields(doc, { title: "milk" }), writeFields(doc, { title: undefined }))],
    ["deleted", (doc) => (writeFields(doc, { title: "milk" }), markDeleted(doc, 7))],
    ["named as a prototype", (doc) => writeFields(doc, JSON.parse('{"__proto__": "a", "constructor": 1, "id": "other"}') as { id: string })],
    ["nothing", () => {}],
    ["elsewhere", (doc) => doc.getMap("_meta").set("_deleted", false)],
  ];
  for (const [name, change] of cases) {
    const state = stateOf(change);
    const row = glance("a", state);
    assert.deepEqual(row, slow("a", state), name);
    assert.notEqual(row, undefined, name);
  }
});

test("of what was written one after the other, and came as one operation, the last counts", () => {
  // As the server merges a title that client 7 wrote and client 9 wrote over three times; the first two of these are deleted.
  const state = Uint8Array.from(
    Buffer.from(
      "0000030947000102000388002818136669656c647369646669656c64737469746c6506020605010100030341000201007705" +
        "62726561647706636865657365770477696e65020077016177046d696c6b020901000107010100",
      "hex",
    ),
  );
  assert.deepEqual(glance("a", state), { id: "a", title: "wine" });
  assert.deepEqual(glance("a", state), slow("a", state));
});

test("what needs the rules of Yjs is not guessed", () => {
  const cases: [string, Uint8Array][] = [
    ["rich text", stateOf((doc) => (makeProse(doc, ["note"]), (fieldsOf(doc).get("note") as Y.XmlFragment).insert(0, [new Y.XmlText("x")])))],
    ["a shared type", stateOf((doc) => fieldsOf(doc).set("list", new Y.Array()))],
    ["two who wrote at once", Y.mergeUpdatesV2([stateOf((doc) => writeFields(doc, { title: "milk" })), stateOf((doc) => writeFields(doc, { title: "bread" }))])],
    ["something missing", gapped()],
    ["long", stateOf((doc) => { for (let i = 0; i < 300; i++) writeFields(doc, { [`f${i}`]: i }); })],
  ];
  for (const [name, state] of cases) assert.equal(glance("a", state), undefined, name);
});

/** An update that builds on one that is not there. */
function gapped(): Uint8Array {
  const doc = new Y.Doc();
  writeFields(doc, { title: "milk" });
  const before = Y.encodeStateVector(doc);
  writeFields(doc, { title: "bread" });
  return Y.encodeStateAsUpdateV2(doc, before);
}

test("what is read at a glance is what Yjs reads, whoever wrote in whatever order", () => {
  const seed = Date.now() % 1e9;
  const random = chance(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  let told = 0;
  for (let round = 0; round < 300; round++) {
    const docs = Array.from({ length: 1 + Math.floor(random() * 3) }, () => new Y.Doc({ gc: random() < 0.8 }));
    const updates: Uint8Array[] = [];
    for (const doc of docs) doc.on("updateV2", (bytes: Uint8Array, origin: unknown) => origin !== "theirs" && updates.push(own(bytes)));
    for (let step = 0; step < 8; step++) {
      const doc = pick(docs);
      const roll = random();
      if (roll < 0.5) writeFields(doc, { [pick(["title", "done", "n"])]: pick([true, 1, "x", null, [1], new Uint8Array([1]), undefined]) });
      else if (roll < 0.6) makeProse(doc, ["note"]);
      else if (roll < 0.65) fieldsOf(doc).delete("note");
      else if (roll < 0.7) markDeleted(doc, step);
      else if (roll < 0.74 && fieldsOf(doc).get("note") instanceof Y.XmlFragment) (fieldsOf(doc).get("note") as Y.XmlFragment).insert(0, [new Y.XmlText("text")]);
      else Y.applyUpdateV2(doc, Y.encodeStateAsUpdateV2(pick(docs)), "theirs");
    }
    // As one writer has it, as it was merged, and with a hole in it.
    const some = updates.filter(() => random() < 0.95);
    const states = [Y.encodeStateAsUpdateV2(pick(docs)), ...(some.length > 0 ? [Y.mergeUpdatesV2(some)] : [])];
    for (const state of states) {
      const row = glance("a", state);
      if (row === undefined) continue;
      told++;
      assert.deepEqual(row, slow("a", state), `seed ${seed}, round ${round}`);
    }
  }
  assert.ok(told > 60, `only ${told} could be read, seed ${seed}`);
});
