// Many official clients press the button of examples/counter at once:
//
//   node hammer.mjs URL CLIENTS CLICKS TOTAL
//
// It prints "ready" when all of them show a number, and presses when a line comes
// on standard input: each client CLICKS times, with the optimistic update of the
// page. When all of them show TOTAL it prints what each has shown, as JSON.

import { ConvexClient } from "convex/browser";
import { anyApi } from "convex/server";
import { once } from "node:events";
import { createInterface } from "node:readline";

const [url, clients, clicks, total] = [process.argv[2], ...process.argv.slice(3).map(Number)];
const { click, count } = anyApi.counter;
const args = { button: "page" };

function optimisticUpdate(store, args) {
  const n = store.getQuery(count, args);
  if (n !== undefined) store.setQuery(count, args, n + 1);
}

const opened = Array.from({ length: clients }, () => {
  const client = new ConvexClient(url, { logger: false, unsavedChangesWarning: false });
  const shown = [];
  let look = () => {};
  client.onUpdate(count, args, (n) => {
    if (n !== shown.at(-1)) shown.push(n);
    look();
  });
  const until = (holds) =>
    new Promise((resolve) => {
      look = () => holds() && resolve();
      look();
    });
  return { client, shown, until, settled: [] };
});

await Promise.all(opened.map((c) => c.until(() => c.shown.length > 0)));
console.log("ready");
await once(createInterface({ input: process.stdin }), "line");

await Promise.all(
  opened.map(async (c) => {
    const press = () => c.client.mutation(click, args, { optimisticUpdate });
    let last = press();
    for (let pressed = 1; pressed <= clicks; pressed++) {
      // One is settled while the next is under way.
      const next = pressed < clicks ? press() : undefined;
      await last;
      c.settled.push(c.shown.at(-1));
      last = next;
    }
  }),
);
await Promise.all(opened.map((c) => c.until(() => c.shown.at(-1) === total)));
console.log(JSON.stringify(opened.map(({ shown, settled }) => ({ shown, settled }))));
await Promise.all(opened.map((c) => c.client.close()));
// Not at once: what is written to a pipe may be on its way still.
process.stdout.write("", () => process.exit(0));
