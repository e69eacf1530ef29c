import assert from "node:assert/strict";
import test from "node:test";
import * as Y from "yjs";
import { own } from "../src/memory.js";
import { BATCH_MS, COALESCE_MS, QUICK_TRIES, STALLED_RETRY_MS } from "../src/outbox.js";
import type { Refusal } from "../src/store.js";
import { Device, docOf, Server, type Tab, World } from "./world.js";

/** A device with one tab that has loaded and is connected. */
async function begin(seed = 1): Promise<{ world: World; server: Server; device: Device; tab: Tab }> {
  const world = new World(seed);
  const server = new Server(world);
  const device = new Device(world, server, "device");
  const tab = device.open();
  await world.pass(500);
  return { world, server, device, tab };
}

const titles = (tab: Tab): (string | undefined)[] => tab.collection.rows().map((row) => row.title);

test("a change is there in the turn it is made, with the server away", async () => {
  const { server, tab } = await begin();
  server.stop();
  const seen: (string | undefined)[][] = [];
  tab.collection.subscribe(() => seen.push(titles(tab)));
  const id = tab.collection.insert({ title: "milk" });
  assert.deepEqual(titles(tab), ["milk"]);
  assert.equal(tab.collection.update(id, { title: "bread", done: true }), true);
  assert.deepEqual(tab.collection.get(id), { id, title: "bread", done: true, note: "" });
  assert.equal(tab.collection.stateOf(id), "pending");
  assert.equal(tab.collection.remove(id), true);
  assert.equal(tab.collection.get(id), undefined);
  assert.equal(tab.collection.update(id, { done: false }), false);
  assert.equal(tab.collection.remove(id), false);
  assert.ok(seen.some(([title]) => title === "milk") && seen.some(([title]) => title === "bread") && seen.at(-1)?.length === 0);
});

test("the first edit is rehearsed once, with the server or without, and nobody sees it", async () => {
  const made: string[] = [];
  const { transact } = Y.Doc.prototype;
  Y.Doc.prototype.transact = function <T>(this: Y.Doc, change: (transaction: Y.Transaction) => T, origin?: unknown): T {
    made.push(this.guid);
    return transact.call(this, change, origin) as T;
  };
  try {
    for (const away of [false, true]) {
      made.length = 0;
      const world = new World();
      const server = new Server(world);
      if (away) server.stop();
      const device = new Device(world, server, "device");
      const tab = device.open();
      await world.pass(60_000);
      assert.equal(made.filter((guid) => guid === "rehearsal").length > 0, true, `edits of ${made}`);
      made.length = 0;
      tab.collection.subscribe(() => assert.deepEqual(tab.collection.rows(), []));
      if (away) server.start();
      await world.pass(60_000);
      assert.deepEqual(made, []);
      assert.deepEqual([tab.collection.rows(), server.docs.size, device.stored], [[], 0, []]);
      assert.equal(tab.collection.status().word, "synced");
    }
  } finally {
    Y.Doc.prototype.transact = transact;
  }
});

test("20 of 20 clicks arrive when the server is killed among them, and none leaves the screen", async () => {
  const { world, server, tab } = await begin();
  let most = 0;
  tab.collection.subscribe(() => {
    const { length } = tab.collection.rows();
    assert.ok(length >= most, `${length} rows after ${most}`);
    most = length;
  });
  for (let i = 0; i < 20; i++) {
    if (i === 5) server.faults.lostAcks = 1; // killed before it answers
    if (i === 8) server.stop();
    if (i === 14) server.reset();
    tab.collection.insert({ title: `click ${i}` });
    assert.equal(tab.collection.rows().length, i + 1);
    await world.pass(40);
  }
  await world.pass(5000);
  server.start();
  await world.pass(2000);
  assert.equal(server.docs.size, 20);
  assert.deepEqual(tab.collection.status(), { word: "synced", loaded: true, connected: true, caughtUp: true, pending: 0, stalled: 0, refused: 0 });
});

test("edits of a document become one write, and many documents one batch", async () => {
  const { world, server, tab } = await begin();
  const id = tab.collection.insert({ title: "0" });
  for (let i = 1; i <= 10; i++) {
    await world.pass(4);
    tab.collection.update(id, { title: String(i) });
  }
  await world.pass(COALESCE_MS + 100);
  assert.deepEqual(server.batches.map(({ writes }) => writes.length), [1]);
  assert.equal(server.fields(id)["title"], "10");
  server.batches.length = 0;
  for (let i = 0; i < 250; i++) tab.collection.insert({ title: `task ${i}` });
  await world.pass(2000);
  assert.deepEqual(server.batches.map(({ writes }) => writes.length), [100, 100, 50]);
  for (const [i, batch] of server.batches.slice(1).entries()) assert.ok(batch.at - (server.batches[i]?.at ?? 0) >= BATCH_MS - 40);
  assert.equal(server.docs.size, 251);
});

test("what is sent is all of its buffer", async () => {
  const { world, server, tab } = await begin();
  tab.collection.insert({ title: "x".repeat(1000) });
  tab.collection.insert({ title: "y" });
  await world.pass(500);
  for (const { writes } of server.batches) for (const { bytes } of writes) assert.equal(bytes.byteLength, bytes.buffer.byteLength);
});

test("five tries with growing pauses, then stalled and kept, then sent when there is a connection", async () => {
  const { world, server, tab } = await begin(7);
  server.faults = { fails: 1, lostAcks: 0, doubled: 0, latency: 0 };
  const tries: number[] = [];
  const { write } = tab.link;
  tab.link.write = (writes) => {
    tries.push(world.now);
    return write.call(tab.link, writes);
  };
  const id = tab.collection.insert({ title: "milk" });
  await world.pass(20_000);
  assert.equal(tries.length, QUICK_TRIES);
  for (let i = 1; i < QUICK_TRIES; i++) {
    const pause = (tries[i] as number) - (tries[i - 1] as number);
    const least = 1000 * 2 ** (i - 1);
    assert.ok(pause >= least && pause <= least * 1.2 + 1, `pause ${i} is ${pause} ms, want ${least} and up to 20 % more`);
  }
  assert.equal(tab.collection.stateOf(id), "stalled");
  assert.deepEqual([tab.collection.status().word, tab.collection.status().pending, tab.collection.status().stalled], ["stalled", 1, 1]);
  await world.pass(STALLED_RETRY_MS * 1.2);
  assert.equal(tries.length, QUICK_TRIES + 1, "a stalled document is tried once a minute");
  tab.collection.update(id, { title: "bread" });
  assert.equal(tab.collection.stateOf(id), "stalled");
  server.reset();
  server.stop();
  server.start();
  await world.pass(300);
  assert.equal(server.fields(id)["title"], "bread");
  assert.equal(tab.collection.stateOf(id), "synced");
});

test("an answer that is lost doubles nothing: the write goes again under its key", async () => {
  const { world, server, tab } = await begin();
  server.faults.lostAcks = 1;
  const id = tab.collection.insert({ title: "milk" });
  await world.pass(1000);
  tab.collection.update(id, { title: "bread" });
  await world.pass(500);
  server.reset();
  await world.pass(3_000);
  const keys = server.batches.map(({ writes }) => writes[0]?.id);
  assert.equal(new Set(keys.slice(0, 2)).size, 1, "the same key for the same bytes");
  assert.equal(server.log.length, 2);
  assert.equal(server.fields(id)["title"], "bread");
});

test("edits survive a crash and a reload, also those that were not sent", async () => {
  const { world, server, device, tab } = await begin();
  server.stop();
  const id = tab.collection.insert({ title: "milk" });
  await world.pass(100);
  tab.crash();
  const second = device.open();
  await world.pass(100);
  assert.deepEqual(titles(second), ["milk"]);
  assert.equal(second.collection.stateOf(id), "pending");
  second.collection.update(id, { title: "bread" });
  await world.pass(100);
  second.crash();
  server.start();
  const third = device.open();
  await world.pass(1000);
  assert.equal(server.fields(id)["title"], "bread");
  assert.equal(third.collection.stateOf(id), "synced");
  assert.equal(await device.writes(), 0);
});

test("a crash between sending and the answer sends the same key again", async () => {
  const { world, server, device, tab } = await begin();
  server.faults.latency = 1000;
  tab.collection.insert({ title: "milk" });
  while (server.batches.length === 0) await world.pass(10);
  tab.crash();
  server.reset();
  device.open();
  await world.pass(2000);
  assert.equal(server.batches.length, 2);
  assert.equal(server.batches[0]?.writes[0]?.id, server.batches[1]?.writes[0]?.id);
  assert.equal(server.log.length, 1);
});

test("what the server has forgotten, or was never sent, is found by comparing vectors", async () => {
  const { world, server, device, tab } = await begin();
  const id = tab.collection.insert({ title: "base" });
  await world.pass(500);
  tab.collection.update(id, { title: "later" });
  await world.pass(500);
  tab.crash();
  // A server that was restored from an older copy.
  const older = server.log.slice(0, 1).map(({ bytes }) => bytes);
  server.docs.set(id, docOf(older));
  server.keys.clear();
  assert.equal(server.fields(id)["title"], "base");
  const second = device.open();
  await world.pass(1000);
  assert.equal(server.fields(id)["title"], "later");
  second.collection.update(id, { title: "again" });
  await world.pass(1000);
  assert.equal(server.fields(id)["title"], "again");
});

test("a write that builds on what the server has not is replaced by all it lacks", async () => {
  const { world, server, tab } = await begin();
  const id = tab.collection.insert({ title: "base" });
  await world.pass(500);
  server.docs.set(id, new Y.Doc());
  tab.collection.update(id, { title: "later" });
  await world.pass(500);
  assert.equal(server.fields(id)["title"], "later");
  assert.equal(tab.collection.stateOf(id), "synced");
});

test("a server that finds gaps over and over is not asked without end", async () => {
  const { world, server, tab } = await begin();
  server.alwaysGapped = true;
  const id = tab.collection.insert({ title: "milk" });
  await world.pass(30_000);
  assert.ok(server.batches.length <= QUICK_TRIES + 1, `${server.batches.length} batches`);
  assert.equal(tab.collection.stateOf(id), "stalled");
  server.alwaysGapped = false;
  await world.pass(STALLED_RETRY_MS * 1.3);
  assert.equal(server.fields(id)["title"], "milk");
});

test("a document that the server fails at does not hold up others", async () => {
  const { world, server, tab } = await begin();
  const { write } = tab.link;
  let poison = "";
  tab.link.write = (writes) => (writes.some(({ document }) => document === poison) ? Promise.reject(new Error("internal error")) : write.call(tab.link, writes));
  poison = tab.collection.insert({ title: "poison" });
  for (let i = 0; i < 9; i++) tab.collection.insert({ title: `task ${i}` });
  await world.pass(60_000);
  assert.equal(server.docs.size, 9);
  const { pending, stalled } = tab.collection.status();
  assert.deepEqual({ pending, stalled }, { pending: 1, stalled: 1 });
});

test("a refused write is reported, set aside and kept over a reload; the next edit takes it along", async () => {
  const { world, server, device, tab } = await begin();
  server.rule = (_, after) => (String(after.getMap("fields").get("title")).length > 5 ? "A title has at most 5 characters." : undefined);
  const told: Refusal[] = [];
  tab.collection.onRefused((refusal) => told.push(refusal));
  const good = tab.collection.insert({ title: "milk" });
  const id = tab.collection.insert({ title: "much too long" });
  await world.pass(500);
  assert.deepEqual(told.map(({ document, code, message }) => ({ document, code, message })), [
    { document: id, code: "Forbidden", message: "A title has at most 5 characters." },
  ]);
  assert.equal(tab.collection.stateOf(id), "refused");
  assert.equal(tab.collection.stateOf(good), "synced");
  assert.equal(tab.collection.status().word, "refused");
  assert.equal(tab.collection.get(id)?.title, "much too long", "what the user wrote is not taken away");
  await ended(world, tab.close());

  const second = device.open();
  await world.pass(500);
  assert.deepEqual(second.collection.refusals().map(({ document }) => document), [id]);
  assert.equal(second.collection.stateOf(id), "refused");
  second.collection.update(id, { title: "short" });
  await world.pass(500);
  assert.equal(server.fields(id)["title"], "short");
  assert.equal(second.collection.stateOf(id), "synced");
  assert.deepEqual(second.collection.refusals(), []);
});

test("a refusal can be tried again and be given up", async () => {
  const { world, server, tab } = await begin();
  server.rule = (_, after) => (after.getMap("fields").get("title") === "no" ? "No." : undefined);
  const id = tab.collection.insert({ title: "yes" });
  const fresh = tab.collection.insert({ title: "no" });
  await world.pass(500);
  tab.collection.update(id, { title: "no" });
  await world.pass(500);
  assert.deepEqual(tab.collection.refusals().map(({ document }) => document).sort(), [id, fresh].sort());
  tab.collection.retry(id);
  await world.pass(500);
  assert.equal(tab.collection.stateOf(id), "refused");
  const doc = tab.collection.hold(id);
  let destroyed = false;
  doc.on("destroy", () => (destroyed = true));
  tab.collection.discard(id);
  tab.collection.discard(fresh);
  await world.pass(500);
  assert.ok(destroyed);
  assert.deepEqual(titles(tab), ["yes"]);
  assert.deepEqual(tab.collection.refusals(), []);
  // New edits have numbers of their own: nobody takes them for those that were given up.
  tab.collection.update(id, { title: "maybe" });
  await world.pass(500);
  assert.equal(server.fields(id)["title"], "maybe");
  server.rule = () => undefined;
  assert.equal(tab.collection.stateOf(id), "synced");
});

test("two tabs are one client: both see all at once, one speaks, and the other takes over", async () => {
  const { world, server, device, tab } = await begin();
  const other = device.open();
  await world.pass(500);
  const id = other.collection.insert({ title: "milk" });
  await world.pass(20);
  assert.deepEqual(titles(tab), ["milk"]);
  assert.equal(other.collection.stateOf(id), "pending");
  await world.pass(500);
  assert.equal(other.collection.stateOf(id), "synced");
  assert.equal(other.collection.status().word, "synced");
  assert.equal(server.batches.length, 1);

  server.stop();
  await world.pass(20);
  assert.equal(other.collection.status().word, "offline");
  other.collection.update(id, { done: true });
  tab.collection.update(id, { title: "bread" });
  await world.pass(50);
  tab.crash();
  server.start();
  await world.pass(1000);
  assert.deepEqual(server.fields(id), { id, title: "bread", done: true, note: "" });
  assert.equal(other.collection.status().word, "synced");
});

test("a tab that is opened while a change is being stored has it too", async () => {
  for (let seed = 1; seed <= 10; seed++) {
    const { world, server, device, tab } = await begin(seed);
    device.storeLatency = 1000;
    const doc = new Y.Doc();
    doc.getMap("fields").set("title", "milk");
    server.put("a", Y.encodeStateAsUpdateV2(doc).slice());
    for (const link of server.links) link.push();
    while (tab.collection.rows().length === 0) await world.pass(1);
    await world.pass(10); // what is told is heard by those who are there
    const other = device.open();
    await world.pass(5000);
    assert.deepEqual(titles(other), ["milk"], `seed ${seed}`);
  }
});

test("an edit of a tab that died before it told the others is sent and shown", async () => {
  const { world, server, device, tab } = await begin();
  const other = device.open();
  await world.pass(500);
  other.collection.insert({ title: "milk" });
  while (device.stored.length === 0) await world.pass(0.5);
  other.crash();
  await world.pass(15_000);
  assert.equal(server.docs.size, 1);
  assert.deepEqual(titles(tab), ["milk"]);
});

test("a device that is full keeps nobody from writing", async () => {
  const { world, server, device, tab } = await begin();
  device.full = true;
  const id = tab.collection.insert({ title: "milk" });
  await world.pass(500);
  assert.equal(server.fields(id)["title"], "milk");
  assert.equal(tab.collection.stateOf(id), "synced");
  assert.match(tab.collection.status().problem ?? "", /QuotaExceededError/);
});

test("a document that the user may not see any more goes, unless they have edits of it", async () => {
  const { world, server, device, tab } = await begin();
  const id = tab.collection.insert({ title: "milk" });
  await world.pass(500);
  assert.deepEqual(titles(tab), ["milk"]);
  server.hidden.add(id);
  server.put(id, docOf([]) && Y.encodeStateAsUpdateV2(new Y.Doc()).slice());
  for (const link of server.links) link.push();
  await world.pass(500);
  assert.deepEqual(titles(tab), []);
  await ended(world, tab.close());
  const second = device.open();
  await world.pass(500);
  assert.deepEqual(titles(second), []);
});

/** Puts documents on the server, as another client does. */
function put(server: Server, n: number, from = 0): void {
  for (let i = from; i < from + n; i++) {
    const doc = new Y.Doc({ guid: "d" });
    doc.getMap("fields").set("title", `task ${i}`);
    server.put(`d${String(i).padStart(5, "0")}`, Y.encodeStateAsUpdateV2(doc).slice());
  }
}

test("thousands of documents come in pages, and are compared in batches by who has them already", async () => {
  const { world, server, device, tab } = await begin();
  await ended(world, tab.close());
  put(server, 3_000);
  server.pageMax = 400;
  const second = device.open();
  await world.pass(5000);
  assert.equal(second.collection.rows().length, 3_000);
  assert.equal(second.collection.rows()[2999]?.title, "task 2999");
  assert.deepEqual(server.recoveries, [], "what came from the server is not compared with it");
  await ended(world, second.close());
  const third = device.open();
  await world.pass(5000);
  assert.deepEqual(server.recoveries, [1000, 1000, 1000]);
  await ended(world, third.close());
  server.stop();
  const fourth = device.open();
  await world.pass(1000);
  assert.equal(fourth.collection.rows().length, 3_000);
  assert.equal(fourth.collection.rows()[1500], fourth.collection.rows()[1500]);
});

test("who has seen no documents sees the first page of them as soon as it is there", async () => {
  const { world, server, device, tab } = await begin();
  await ended(world, tab.close());
  put(server, 3_000);
  server.pageMax = 400;
  const { collection } = device.open();
  const seen: number[] = [];
  collection.subscribe(() => seen.push(collection.rows().length));
  await world.pass(5000);
  assert.equal(seen.find((rows) => rows > 0), 400);
  assert.equal(seen.at(-1), 3_000);
});

test("documents are on the screen before they are stored, and the next are asked for before that", async () => {
  const { world, server, device, tab } = await begin();
  await ended(world, tab.close());
  put(server, 30);
  server.pageMax = 10;
  server.faults.latency = 0;
  const second = device.open();
  await world.pass(100);
  await ended(world, second.close());
  put(server, 30, 30);
  const third = device.open();
  while (third.collection.rows().length < 30) await world.pass(1);
  device.storeLatency = 1_000_000;
  while (third.collection.rows().length < 60) await world.pass(1);
  assert.ok(world.now < 10_000, `at ${world.now} ms`);
});

test("a document that is written while all are fetched is there as it was written last", async () => {
  const { world, server, device, tab } = await begin();
  await ended(world, tab.close());
  put(server, 30);
  server.pageMax = 7;
  server.faults = { fails: 0.3, lostAcks: 0.3, doubled: 0, latency: 50 };
  const second = device.open();
  while (second.collection.rows().length === 0) await world.pass(1);
  const written = ["d00001", "d00029", "d00012"];
  for (const document of written) {
    const before = Y.encodeStateVector(server.doc(document));
    const doc = docOf([own(Y.encodeStateAsUpdateV2(server.doc(document)))]);
    doc.getMap("fields").set("title", "later");
    server.put(document, own(Y.encodeStateAsUpdateV2(doc, before)));
  }
  put(server, 1, 40);
  for (const link of server.links) link.push();
  // One that dies half way begins anew.
  second.crash();
  const third = device.open();
  await world.pass(60_000);
  const shown = new Map(third.collection.rows().map((row) => [row.id, row.title]));
  assert.equal(shown.size, 31);
  for (const document of written) assert.equal(shown.get(document), "later");
  assert.deepEqual(await (await device.memory.open("tasks")).load().then(({ cursor }) => cursor), server.log.length);
});

test("writes of a batch that the server had no time for are no failures", async () => {
  const { world, server, tab } = await begin();
  server.writesMax = 2;
  for (let i = 0; i < 9; i++) tab.collection.insert({ title: `task ${i}` });
  await world.pass(1500);
  assert.equal(server.docs.size, 9);
  assert.equal(tab.collection.status().word, "synced");
  assert.equal(server.batches.length, 5);
  server.writesMax = 0;
  const id = tab.collection.insert({ title: "no answer" });
  await world.pass(30_000);
  assert.equal(tab.collection.stateOf(id), "stalled");
});

test("what the device had no room for comes again from the server", async () => {
  const { world, server, device, tab } = await begin();
  put(server, 5);
  device.full = true;
  for (const link of server.links) link.push();
  await world.pass(500);
  assert.equal(tab.collection.rows().length, 5);
  device.full = false;
  put(server, 5, 5);
  for (const link of server.links) link.push();
  await world.pass(500);
  await ended(world, tab.close());
  const second = device.open();
  await world.pass(500);
  assert.equal(second.collection.rows().length, 10);
});

/** Waits for something that takes time of the world. */
async function ended(world: World, what: Promise<unknown>): Promise<void> {
  let done = false;
  void what.then(() => (done = true));
  while (!done) await world.pass(1);
}
