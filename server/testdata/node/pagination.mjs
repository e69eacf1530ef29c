// Shows lists with usePaginatedQuery and takes steps, after each of which it waits for what the lists have to show:
//   node pagination.mjs http://127.0.0.1:1234 '{"lists":[{"query":"page","args":{"channel":"a"},"items":2}],"steps":[{"shows":["a b CanLoadMore"]}]}'
// The test has the table of them. It exits with 0 when each list showed all that, and never a line twice or out of order.
import assert from "node:assert/strict";
import { mount, window } from "./screen.mjs";

const { ConvexReactClient, usePaginatedQuery } = await import("convex/react");
const { anyApi } = await import("convex/server");
const { default: WebSocket } = await import("ws");

const [url, given] = process.argv.slice(2);
const { lists, steps } = JSON.parse(given);
const client = new ConvexReactClient(url, { logger: false, webSocketConstructor: WebSocket });

const more = [];
const shown = mount(() =>
  lists.map(({ query, args, items }, i) => {
    const { results, status, loadMore } = usePaginatedQuery(anyApi.t[query], args, { initialNumItems: items });
    more[i] = loadMore;
    return [...results, status].join(" ");
  }), { by: client });

for (const { add, remove, list, load, querySet, cut, shows } of steps) {
  const change = (f, bodies) => client.mutation(anyApi.t[f], { channel: list, bodies });
  if (cut) assert.equal((await fetch(`${url}/transcript/cut`, { method: "POST" })).status, 200);
  if (add) await change("sendAll", add);
  if (remove) await change("removeAll", remove);
  if (load) more[load.list](load.items);
  await shown.until(JSON.stringify(shows));
  // The hook splits a page by itself, and shows nothing of it.
  if (querySet) assert.equal((await fetch(`${url}/transcript/step?${new URLSearchParams({ name: "", querySet })}`, { method: "POST" })).status, 200);
  await shown.until(JSON.stringify(shows));
}
for (const all of shown.seen) {
  for (const text of JSON.parse(all)) {
    const lines = text.split(" ").slice(0, -1).filter(Boolean);
    assert.deepEqual(lines, [...new Set(lines)].sort(), "out of order, or twice: " + all);
  }
}
await client.close();
await window.happyDOM.close();
process.exit(0);
