import assert from "node:assert/strict";
import test from "node:test";
import * as Y from "yjs";
import { Documents } from "../src/documents.js";
import { fieldsOf, proseText, readRow, same, writeFields } from "../src/material.js";
import { own } from "../src/memory.js";
import { World } from "./world.js";

function begin(): { documents: Documents; edits: [string, Uint8Array][] } {
  const world = new World();
  const edits: [string, Uint8Array][] = [];
  const documents = new Documents(
    { now: () => world.now, random: world.random, after: (ms, run) => world.after(ms, run), cancel: (id) => world.cancel(id) },
    (document, bytes) => edits.push([document, bytes]),
    () => {},
  );
  return { documents, edits };
}

const updateOf = (change: (doc: Y.Doc) => void): Uint8Array<ArrayBuffer> => {
  const doc = new Y.Doc();
  change(doc);
  return own(Y.encodeStateAsUpdateV2(doc));
};

test("a row is the same object until it says something else", () => {
  const { documents } = begin();
  documents.edit("a", (doc) => writeFields(doc, { title: "milk", tags: ["x"] }));
  documents.edit("b", (doc) => writeFields(doc, { title: "bread" }));
  const [rows, a] = [documents.rows(), documents.row("a")];
  assert.equal(documents.rows(), rows);
  documents.edit("b", (doc) => writeFields(doc, { title: "butter" }));
  assert.notEqual(documents.rows(), rows);
  assert.equal(documents.row("a"), a);
  documents.edit("a", (doc) => writeFields(doc, { title: "milk", tags: ["x"] }));
  assert.equal(documents.row("a"), a, "what is equal is not written");
});

test("an update that brings nothing is no news, and one with a gap is kept until it fits", () => {
  const { documents } = begin();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  const doc = new Y.Doc();
  doc.on("updateV2", (bytes: Uint8Array) => parts.push(own(bytes)));
  for (const title of ["one", "two", "three"]) fieldsOf(doc).set("title", title);
  const [one, two, three] = parts as [Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>];
  assert.ok(documents.apply("a", one));
  assert.equal(documents.apply("a", one), undefined);
  assert.ok(documents.apply("a", three), "it is stored, since it is needed later");
  assert.equal(documents.row("a")?.["title"], "one");
  assert.ok(documents.apply("a", two));
  assert.equal(documents.row("a")?.["title"], "three");
  assert.deepEqual(Y.encodeStateVectorFromUpdateV2(documents.bytes("a") as Uint8Array), Y.encodeStateVector(doc));
});

test("Y.Docs that nobody holds are let go, with what was done in them", () => {
  const { documents, edits } = begin();
  const held = documents.hold("held");
  let destroyed = 0;
  for (let i = 0; i < 100; i++) {
    documents.edit(`d${i}`, (doc) => {
      doc.once("destroy", () => destroyed++);
      writeFields(doc, { i });
    });
  }
  assert.equal(destroyed, 68);
  assert.equal(documents.hold("held"), held);
  fieldsOf(held).set("title", "by an editor");
  assert.equal(documents.row("held")?.["title"], "by an editor");
  assert.equal(edits.length, 101);
  for (let i = 0; i < 100; i++) assert.equal(documents.row(`d${i}`)?.["i"], i);
  // Edited again, a document that was let go goes on under the same number: one client, not two.
  documents.edit("d0", (doc) => writeFields(doc, { i: "again" }));
  assert.equal(Y.decodeStateVector(documents.vector("d0")).size, 1);
});

test("what is typed for long does not pile up", () => {
  const { documents } = begin();
  const text = documents.hold("a").getText("t");
  for (let i = 0; i < 2000; i++) text.insert(text.length, "x");
  const bytes = documents.bytes("a") as Uint8Array;
  assert.ok(bytes.length < 2200, `${bytes.length} bytes for 2,000 letters`);
});

test("rows have plain values, whatever the fields are called", () => {
  const doc = new Y.Doc();
  Y.applyUpdateV2(
    doc,
    updateOf((doc) => {
      const fields = fieldsOf(doc);
      fields.set("__proto__", "a field");
      fields.set("id", "another's");
      fields.set("list", new Y.Array());
      const note = new Y.XmlFragment();
      fields.set("note", note);
      const item = new Y.XmlElement("listItem");
      const paragraph = new Y.XmlElement("paragraph");
      note.insert(0, [new Y.XmlElement("paragraph"), item, new Y.XmlText("loose")]);
      item.insert(0, [paragraph]);
      paragraph.insert(0, [new Y.XmlText("Bold and plain")]);
      (paragraph.get(0) as Y.XmlText).format(0, 4, { bold: true });
    }),
  );
  const row = readRow("a", doc);
  assert.deepEqual(Object.entries(row ?? {}).sort(), [["__proto__", "a field"], ["id", "a"], ["list", []], ["note", "\nBold and plain\nloose"]]);
  assert.equal(Object.getPrototypeOf(row), Object.prototype);
  assert.equal(proseText(doc.getXmlFragment("none")), "");
});

test("values are equal as JSON and bytes are", () => {
  for (const [a, b, want] of [
    [NaN, NaN, true],
    [0, -0, false],
    [[1, [2]], [1, [2]], true],
    [[1], { 0: 1 }, false],
    [{ a: undefined }, {}, false],
    [{ a: 1, b: 2 }, { b: 2, a: 1 }, true],
    [new Uint8Array([1]), new Uint8Array([1]), true],
    [new Uint8Array([1]), new Uint8Array([2]), false],
    [new Uint8Array([1]), [1], false],
    [null, {}, false],
  ] as [unknown, unknown, boolean][]) {
    assert.equal(same(a, b), want, `${JSON.stringify(a)} and ${JSON.stringify(b)}`);
  }
});
