// Measures collections in this browser, against this server: how long until documents are there, at first and again,
// and how long changes of others take. Open /bench.html?n=10000.

import { ConvexClient } from "convex/browser";
import { Collection, convexRemote, indexedDB, memory, type Persistence } from "halcyon-replicate";

interface Task {
  id: string;
  title: string;
  done: boolean;
  note?: string;
}

const n = Number(new URLSearchParams(location.search).get("n"));
const client = new ConvexClient(location.origin, { unsavedChangesWarning: false });
const open = (persistence: Persistence) => new Collection<Task>({ name: "tasks", remote: convexRemote(client, "tasks"), persistence, prose: ["note"] });
const figures: Record<string, number> = {};

function report(what: string, value: number): void {
  figures[what] = value;
  const row = (document.getElementById("figures") as HTMLTableElement).insertRow();
  row.insertCell().textContent = what;
  row.insertCell().textContent = String(Math.round(value * 10) / 10);
}

/** Waits until a collection is as it should be, looking at it whenever it changes. */
function until(collection: Collection<Task>, done: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (!done()) return;
      stop();
      resolve();
    };
    const stop = collection.subscribe(look);
    queueMicrotask(look);
  });
}

/** Notes the longest time in which the page could not have answered its user. */
function watchPauses(): () => number {
  let [longest, last, on] = [0, performance.now(), true];
  const channel = new MessageChannel();
  channel.port1.onmessage = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if (on) channel.port2.postMessage(0);
  };
  channel.port2.postMessage(0);
  return () => {
    on = false;
    return longest;
  };
}

async function run(): Promise<void> {
  const fill = open(memory());
  await until(fill, () => fill.status().caughtUp);
  for (let i = fill.rows().length; i < n; i++) fill.insert({ title: `Task ${i} of many that are to be done`, done: i % 3 === 0 });
  await until(fill, () => fill.status().pending === 0);
  await fill.close();

  // What earlier runs have left.
  await new Promise((resolve) => {
    const request = globalThis.indexedDB.deleteDatabase("bench/tasks");
    request.onsuccess = request.onerror = resolve;
  });
  for (const [what, all] of [
    ["first, from the server", "caughtUp"],
    ["again, from the device", "loaded"],
  ] as const) {
    const pauses = watchPauses();
    const begin = performance.now();
    const collection = open(indexedDB({ prefix: "bench/" }));
    await until(collection, () => collection.rows().length >= n && collection.status()[all]);
    report(`${n} documents ${what}, ms`, performance.now() - begin);
    const edited = performance.now();
    const [row] = collection.rows();
    if (row) collection.update(row.id, { done: !row.done });
    collection.rows();
    report(`an edit of one of ${n}, ${what}, ms`, performance.now() - edited);
    report(`longest pause of the page, ${n} ${what}, ms`, pauses());
    await until(collection, () => collection.status().caughtUp && collection.status().pending === 0);
    if (all === "loaded") await changes(collection);
    else await collection.close();
  }
}

/** Measures what changes of a hundred documents by somebody else take in the page. */
async function changes(collection: Collection<Task>): Promise<void> {
  const other = open(memory());
  await until(other, () => other.status().caughtUp);
  const ids = collection.rows().slice(-100).map(({ id }) => id);
  const busy: number[] = [];
  for (let round = 0; round < 5; round++) {
    const title = `Round ${round} ${Math.random()}`;
    const pauses = watchPauses();
    for (const id of ids) other.update(id, { title });
    await until(collection, () => ids.every((id) => collection.get(id)?.title === title));
    busy.push(pauses());
    await until(other, () => other.status().pending === 0);
  }
  busy.sort((a, b) => a - b);
  report("a batch of 100 changes of others: longest pause of the page, ms, median of 5", busy[2] as number);
  await other.close();
  (globalThis as { kept?: unknown }).kept = collection; // its memory is measured from outside
}

if (n > 0) await run();
(globalThis as { measured?: unknown }).measured = figures;
