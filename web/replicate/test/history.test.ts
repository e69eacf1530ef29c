import assert from "node:assert/strict";
import test from "node:test";
import * as Y from "yjs";
import { Device, docOf, equal, Server, type Tab, World } from "./world.js";

/** How many histories run; more with HALCYON_REPLICATE_HISTORIES, and one alone with HALCYON_REPLICATE_SEED. */
const HISTORIES = Number(process.env["HALCYON_REPLICATE_HISTORIES"] ?? 25);
const ONLY = process.env["HALCYON_REPLICATE_SEED"];

const DOCUMENTS = ["a", "b", "c", "d", "e", "f"];

/** One history: devices edit, lose the network, reload and crash, while the server fails. In the end all have the same. */
async function history(seed: number): Promise<void> {
  const world = new World(seed);
  const server = new Server(world);
  server.pageMax = world.pick([2, 7, 1000]);
  server.writesMax = world.pick([1, 3, 1000]);
  const devices = [0, 1, 2].map((i) => new Device(world, server, `device ${i}`));
  for (const device of devices) {
    device.open();
    if (world.random() < 0.4) device.open();
  }
  await world.pass(200);
  for (let step = 0; step < 120; step++) {
    const device = world.pick(devices);
    const tab = world.pick([...device.tabs]) as Tab | undefined;
    const roll = world.random();
    if (!tab) device.open();
    else if (roll < 0.62) edit(world, tab);
    else if (roll < 0.68) device.setOnline(!device.online);
    else if (roll < 0.73) tab.crash();
    else if (roll < 0.77) await ended(world, tab.close());
    else if (roll < 0.8) device.open();
    else if (roll < 0.83) server.up ? server.stop() : server.start();
    else if (roll < 0.88)
      server.faults = { fails: world.random() * 0.5, lostAcks: world.random() * 0.5, doubled: world.random() * 0.3, latency: world.between(5, 2000) };
    else if (roll < 0.92) server.reset();
    else await world.pass(world.pick([1, 20, 60, 150, 1000, 20_000]));
    await world.pass(world.random() * 30);
  }
  server.reset();
  server.start();
  for (const device of devices) {
    device.setOnline(true);
    if (device.tabs.size === 0) device.open();
  }
  await world.pass(20 * 60_000);

  for (const document of new Set([...DOCUMENTS, ...server.docs.keys()])) {
    const shadow = docOf(devices.flatMap(({ stored }) => stored.filter((edit) => edit.document === document).map(({ bytes }) => bytes)));
    assert.equal(shadow.store.pendingStructs, null, "what is stored has no gaps");
    assert.ok(equal(server.doc(document), shadow), `the server has all of ${document} that was ever stored, and nothing else`);
    for (const device of devices) {
      for (const { collection } of device.tabs) {
        const doc = collection.hold(document);
        const where = `${device.name} has ${document} as the server has it`;
        assert.ok(equal(doc, server.doc(document)), where);
        const gone = server.doc(document).getMap("_meta").get("_deleted") === true;
        assert.equal(collection.get(document)?.title, gone ? undefined : server.fields(document)["title"], where);
        collection.release(document);
      }
    }
  }
  for (const device of devices) {
    assert.equal(await device.writes(), 0, `${device.name} has nothing left to send`);
    for (const { collection } of device.tabs) {
      const { word, pending, problem } = collection.status();
      assert.equal(`${word} ${pending}`, "synced 0", `${device.name}: ${problem}`);
      await ended(world, collection.close());
    }
  }
}

/** Waits for something that takes time of the world. */
async function ended(world: World, what: Promise<unknown>): Promise<void> {
  let done = false;
  void what.then(() => (done = true));
  while (!done) await world.pass(1);
}

function edit(world: World, { collection }: Tab): void {
  const document = world.pick(DOCUMENTS);
  const roll = world.random();
  if (roll < 0.05) {
    collection.remove(document);
  } else if (!collection.get(document)) {
    collection.insert({ id: document, title: `first ${world.random()}`, done: false });
  } else if (roll < 0.6) {
    collection.update(document, world.random() < 0.5 ? { title: `title ${world.random()}` } : { done: world.random() < 0.5 });
  } else {
    const doc = collection.hold(document);
    const note = doc.getMap("fields").get("note");
    if (note instanceof Y.XmlFragment) {
      doc.transact(() => {
        if (note.length === 0) note.insert(0, [new Y.XmlText()]);
        const text = note.get(0) as Y.XmlText;
        if (text.length > 4 && world.random() < 0.3) text.delete(Math.floor(world.random() * (text.length - 1)), 1);
        else text.insert(Math.floor(world.random() * (text.length + 1)), world.pick(["x", "yes", "no "]));
      });
    }
    collection.release(document);
  }
}

/** Seeds that have found something. */
const KNOWN = [1006];

if (ONLY !== undefined) test(`history ${ONLY}`, () => history(Number(ONLY)));
else
  test(`${HISTORIES} histories`, async () => {
    const base = Number(process.env["HALCYON_REPLICATE_FIRST"] ?? 1);
    for (const seed of [...KNOWN, ...Array.from({ length: HISTORIES }, (_, i) => base + i)]) {
      try {
        await history(seed);
      } catch (error) {
        throw new Error(`HALCYON_REPLICATE_SEED=${seed}`, { cause: error });
      }
    }
  });
