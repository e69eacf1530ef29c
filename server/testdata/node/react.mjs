// Runs the official React hooks against the server at a URL, in a document without a screen:
//   node react.mjs http://127.0.0.1:1234 pages
// It exits with 0 when the scenario went as it should.
import assert from "node:assert/strict";
import { Window } from "happy-dom";

const window = new Window();
globalThis.window = window;
globalThis.document = window.document;
if (!globalThis.navigator) globalThis.navigator = window.navigator;
const { createElement: h } = await import("react");
const { createRoot } = await import("react-dom/client");
const { ConvexProvider, ConvexReactClient, useMutation, usePaginatedQuery, useQuery } = await import("convex/react");
const { anyApi } = await import("convex/server");
const { default: WebSocket } = await import("ws");

const [url, name] = process.argv.slice(2);
const api = anyApi.t;
const client = new ConvexReactClient(url, { logger: false, webSocketConstructor: WebSocket });

// mount shows a component and records what it renders, without repetitions.
function mount(component) {
  const seen = [];
  let look = () => {};
  const Recorder = () => {
    const shows = JSON.stringify(component());
    if (shows !== seen.at(-1)) seen.push(shows);
    look();
    return shows;
  };
  const root = createRoot(document.createElement("div"));
  root.render(h(ConvexProvider, { client }, h(Recorder)));
  const until = (wanted) => new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`it never shows ${wanted}; it showed ${seen.join("\n")}`)), 20_000);
    look = () => {
      if (seen.at(-1) !== wanted) return;
      clearTimeout(timer);
      resolve();
    };
    look();
  });
  return { seen, until, unmount: () => root.unmount() };
}

const scenarios = {
  // A list of pages grows, splits, shrinks and is read to its end, and never shows a line twice or leaves one out.
  async pages() {
    const add = (...bodies) => client.mutation(api.sendAll, { channel: "list", bodies });
    await add("b", "d", "f", "h", "j");
    let more;
    const list = mount(() => {
      const { results, status, loadMore } = usePaginatedQuery(api.page, { channel: "list" }, { initialNumItems: 2 });
      more = loadMore;
      return [results.join(" "), status];
    });
    const shows = (text, status) => list.until(JSON.stringify([text, status]));
    await shows("b d", "CanLoadMore");
    more(2);
    await shows("b d f h", "CanLoadMore");
    more(2);
    await shows("b d f h j", "Exhausted");
    // Inside of a page, between two, at the very end.
    await add("c");
    await shows("b c d f h j", "Exhausted");
    await add("e");
    await shows("b c d e f h j", "Exhausted");
    await add("z");
    await shows("b c d e f h j z", "Exhausted");
    // More than twice what a page had: it is split, and shows the same.
    await add("ba", "bb", "bc", "bd");
    await shows("b ba bb bc bd c d e f h j z", "Exhausted");
    await add("be");
    await shows("b ba bb bc bd be c d e f h j z", "Exhausted");
    await client.mutation(api.removeAll, { channel: "list", bodies: ["b", "ba", "bb", "bc", "bd", "be", "c", "d"] });
    await shows("e f h j z", "Exhausted");
    for (const text of list.seen) {
      const shown = JSON.parse(text)[0].split(" ");
      assert.deepEqual(shown, [...new Set(shown)].sort(), "out of order, or twice: " + shown);
    }
  },

  // Two lists of the same query have pages of their own.
  async twoLists() {
    await client.mutation(api.sendAll, { channel: "list", bodies: ["a", "b", "c", "d"] });
    const lists = mount(() => [1, 3].map((n) =>
      usePaginatedQuery(api.page, { channel: "list" }, { initialNumItems: n }).results.join("")));
    await lists.until(JSON.stringify(["a", "abc"]));
    await client.mutation(api.sendAll, { channel: "list", bodies: ["aa"] });
    await lists.until(JSON.stringify(["a", "aaabc"]));
  },

  // A cursor of another database: the hook begins anew.
  async invalidCursor() {
    await client.mutation(api.sendAll, { channel: "list", bodies: ["a", "b"] });
    await assert.rejects(client.query(api.page, { channel: "list", paginationOpts: { numItems: 1, cursor: "nobody made this" } }), /InvalidCursor/);
    let forged = false, more;
    const list = mount(() => {
      const r = usePaginatedQuery(api.pageForged, { channel: "list", forged: false }, { initialNumItems: 1 });
      more = r.loadMore;
      return [r.results.join(""), r.status];
    });
    await list.until(JSON.stringify(["a", "CanLoadMore"]));
    assert.equal(forged, false);
    more(1); // its cursor is one that the server does not know
    await list.until(JSON.stringify(["", "LoadingFirstPage"]));
    await list.until(JSON.stringify(["a", "CanLoadMore"]));
  },

  // useQuery and useMutation with an optimistic update: no wrong number is ever shown.
  async counter() {
    let add;
    const shown = mount(() => {
      const n = useQuery(api.count, { channel: "c" });
      add = useMutation(api.increment).withOptimisticUpdate((store, args) => {
        store.setQuery(api.count, args, (store.getQuery(api.count, args) ?? 0n) + 1n);
      });
      return [String(n)];
    });
    await shown.until(JSON.stringify(["0"]));
    await Promise.all(Array.from({ length: 20 }, () => add({ channel: "c" })));
    await shown.until(JSON.stringify(["20"]));
    const numbers = shown.seen.map((text) => JSON.parse(text)[0]).filter((n) => n !== "undefined").map(Number);
    assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b), "it went back: " + numbers);
  },
};

await scenarios[name]();
await client.close();
await window.happyDOM.close();
process.exit(0);
