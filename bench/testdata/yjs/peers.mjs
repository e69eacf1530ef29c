// Runs one workload at a time: for each line {"who","op","times"} on standard input it prints the milliseconds it took on average, or
// null where the peer has no such function. The inputs are files in the folder given as argument.
import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";
import * as Y from "yjs";
import * as W from "ywasm";

const dir = process.argv[2];
const file = (name) => new Uint8Array(fs.readFileSync(path.join(dir, name)));
// A list is its updates, each after its length in 4 bytes.
const list = (name) => {
  const b = file(name), view = new DataView(b.buffer, b.byteOffset), out = [];
  for (let at = 0; at < b.length;) {
    const n = view.getUint32(at);
    out.push(b.subarray(at + 4, at + 4 + n));
    at += 4 + n;
  }
  return out;
};
const v1 = file("b4.v1"), v2 = file("b4.v2"), sv = file("sv"), typing = list("typing"), small = list("small");
const edits = JSON.parse(fs.readFileSync(path.join(dir, "edits.json"), "utf8"));

const ops = {
  yjs: {
    merge: () => Y.mergeUpdates(typing),
    diffV1: () => Y.diffUpdate(v1, sv),
    diffV2: () => Y.diffUpdateV2(v2, sv),
    stateVectorV1: () => Y.encodeStateVectorFromUpdate(v1),
    stateVectorV2: () => Y.encodeStateVectorFromUpdateV2(v2),
    loadV1: () => { const d = new Y.Doc(); Y.applyUpdate(d, v1); return d.getText("text").toString(); },
    loadV2: () => { const d = new Y.Doc(); Y.applyUpdateV2(d, v2); return d.getText("text").toString(); },
    small: () => { for (const u of small) Y.applyUpdate(new Y.Doc(), u); },
    apply: () => {
      const d = new Y.Doc(), t = d.getText("text");
      let bytes = 0;
      d.on("update", (u) => { bytes += u.length; });
      for (const [at, deleted, inserted] of edits) {
        if (deleted) t.delete(at, deleted);
        if (inserted) t.insert(at, inserted);
      }
      return bytes;
    },
  },
  ywasm: {
    loadV1: () => { const d = new W.YDoc({}); W.applyUpdate(d, v1); const s = d.getText("text").toString(); d.free(); return s; },
    loadV2: () => { const d = new W.YDoc({}); W.applyUpdateV2(d, v2); const s = d.getText("text").toString(); d.free(); return s; },
    small: () => {
      const docs = small.map((u) => { const d = new W.YDoc({}); W.applyUpdate(d, u); return d; });
      for (const d of docs) d.free();
    },
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { who, op, times } = JSON.parse(line);
  const run = ops[who][op];
  let took = null;
  if (run) {
    const start = performance.now();
    for (let i = 0; i < times; i++) run();
    took = (performance.now() - start) / times;
  }
  process.stdout.write(JSON.stringify(took) + "\n");
}
