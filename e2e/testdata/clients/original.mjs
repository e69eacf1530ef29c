// What the front end and the sync script of markdown-site do, with the official clients
// and in the way the articles describe them:
//
//   node original.mjs http://127.0.0.1:1234 stats
//   node original.mjs http://127.0.0.1:1234 sync FOLDER [ADMIN-KEY]
//
// It exits with 0 when the scenario went as it should.

import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

const [url, scenario, folder, adminKey] = process.argv.slice(2);

/** Waits for what has to become true. */
async function until(what, ok) {
  const late = Date.now() + 80_000;
  for (let last; ; await new Promise((done) => setTimeout(done, 10))) {
    last = ok();
    if (last) return last;
    if (Date.now() > late) assert.fail(`${what}: it never happened`);
  }
}

async function stats() {
  const { Window } = await import("happy-dom");
  const window = new Window({ url: "https://blog.example/" });
  globalThis.window = window;
  globalThis.document = window.document;
  globalThis.localStorage = window.localStorage;
  if (!globalThis.navigator) globalThis.navigator = window.navigator;
  const { createElement: h, StrictMode, useCallback, useEffect, useRef, useState } = await import("react");
  const { createRoot } = await import("react-dom/client");
  const { ConvexProvider, ConvexReactClient, useMutation, useQuery } = await import("convex/react");
  const { anyApi: api } = await import("convex/server");
  const { default: WebSocket } = await import("ws");

  const DEBOUNCE_MS = 20_000;
  const sessionId = () => {
    let id = localStorage.getItem("markdown_blog_session_id");
    if (!id) localStorage.setItem("markdown_blog_session_id", (id = crypto.randomUUID()));
    return id;
  };

  /** Mutations that were called, by name. */
  const sent = { views: 0, beats: 0 };

  // The hook: a view on each change of the path, a beat at once and then every 30 s, one at
  // a time, and not again for the same path within the debounce. The place is the browser's.
  function usePageTracking(path) {
    const recordPageView = useMutation(api.stats.recordPageView);
    const heartbeat = useMutation(api.stats.heartbeat);
    const session = useRef(null);
    const recorded = useRef(null);
    const pending = useRef(false);
    const last = useRef({ at: 0, path: null });
    const beat = useCallback(
      async (to) => {
        if (!session.current || pending.current) return;
        if (last.current.path === to && Date.now() - last.current.at < DEBOUNCE_MS) return;
        pending.current = true;
        last.current = { at: Date.now(), path: to };
        try {
          sent.beats++;
          await heartbeat({ sessionId: session.current, currentPath: to, city: "San Francisco", country: "US", latitude: 37.7749, longitude: -122.4194 });
        } catch {
          // Like the original: a page does not fail for this.
        } finally {
          pending.current = false;
        }
      },
      [heartbeat],
    );
    useEffect(() => {
      session.current = sessionId();
    }, []);
    useEffect(() => {
      if (recorded.current === path) return;
      recorded.current = path;
      sent.views++;
      recordPageView({ path, pageType: path === "/" ? "home" : path === "/stats" ? "stats" : "page", sessionId: session.current }).catch(() => {});
    }, [path, recordPageView]);
    useEffect(() => {
      void beat(path);
      const timer = setInterval(() => void beat(path), 30_000);
      return () => clearInterval(timer);
    }, [path, beat]);
  }

  /** Everything the two versions of the page have shown, the newest last. */
  const shown = { older: [], newer: [] };
  let go, tick;

  function Stats({ args, into }) {
    const found = useQuery(api.stats.getStats, args);
    into.push(found === undefined ? "Loading statistics..." : found);
    return null;
  }

  function App() {
    const [path, setPath] = useState("/");
    const [now, setNow] = useState(Math.floor(Date.now() / 60_000) * 60_000);
    go = setPath;
    tick = () => setNow((before) => before + 60_000);
    usePageTracking(path);
    return [h(Stats, { key: 1, args: {}, into: shown.older }), h(Stats, { key: 2, args: { now }, into: shown.newer })];
  }

  const client = new ConvexReactClient(url, { logger: false, webSocketConstructor: WebSocket });
  const root = createRoot(document.createElement("div"));
  root.render(h(StrictMode, null, h(ConvexProvider, { client }, h(App))));

  const both = (what, ok) =>
    until(what, () => [shown.older, shown.newer].every((all) => typeof all.at(-1) === "object" && ok(all.at(-1))));
  await both("its own visit", (s) => s.activeVisitors === 1 && s.totalPageViews === 1);
  const first = shown.older.at(-1);
  // What the originals have, and activePaths, which they do not ask for.
  assert.deepEqual(Object.keys(first).sort(), [
    "activeByPath", "activePaths", "activeVisitors", "pageStats", "publishedPages", "publishedPosts", "totalPageViews", "totalPaths", "trackingSince", "uniqueVisitors", "visitorLocations",
  ]);
  assert.deepEqual(first.activeByPath, [{ count: 1, path: "/" }]);
  assert.deepEqual(first.pageStats, [{ pageType: "home", path: "/", title: "Home", views: 1 }]);
  assert.deepEqual(first.visitorLocations, [{ country: "US", latitude: 37.8, longitude: -122.4 }]);
  for (const name of ["totalPaths", "publishedPosts", "publishedPages", "trackingSince"]) assert.equal(typeof first[name], "number", name);
  assert.deepEqual(shown.newer.at(-1), first, "with now and without it is one answer");

  // Another page: a view and a beat, although the window of the unchanged beat is not over.
  go("/about");
  await both("the next page", (s) => s.totalPageViews === 2 && s.activeByPath[0]?.path === "/about" && s.uniqueVisitors === 1);
  assert.equal(shown.older.at(-1).pageStats.find(({ path }) => path === "/about").title, "About");

  // Somebody else comes, and again within the half hour.
  const other = { sessionId: "somebody-else" };
  for (const path of ["/hello", "/hello"]) await client.mutation(api.stats.recordPageView, { path, pageType: "page", ...other });
  await client.mutation(api.stats.heartbeat, { currentPath: "/hello", ...other });
  await both("somebody else", (s) => s.activeVisitors === 2 && s.totalPageViews === 3 && s.uniqueVisitors === 2 && s.totalPaths === 3);

  // The newer page asks anew each minute, and is told the same.
  tick();
  await until("the next minute", () => shown.newer.at(-1) === "Loading statistics..." || shown.newer.length > 0);
  await both("the next minute", (s) => s.activeVisitors === 2);
  const older = shown.older.filter((s) => typeof s === "object");
  for (let i = 1; i < older.length; i++) {
    assert.ok(older[i].totalPageViews >= older[i - 1].totalPageViews, "the number of views went back");
  }
  assert.equal(shown.older.indexOf("Loading statistics...", shown.older.findIndex((s) => typeof s === "object")), -1, "the page of {} never loads again");
  assert.ok(sent.views >= 2 && sent.beats >= 2, `the hook sent ${JSON.stringify(sent)}`);
  root.unmount();
  await client.close();
}

/** Reads a folder as the sync script does: front matter by gray-matter, reading time by words. */
async function read(kind) {
  const { default: matter } = await import("gray-matter");
  const all = [];
  for (const name of (await readdir(join(folder, kind))).filter((name) => name.endsWith(".md")).sort()) {
    const { data, content } = matter(await readFile(join(folder, kind, name), "utf8"));
    if (!data.title || !data.slug) continue;
    const { date, description, tags, readTime, published, ...rest } = data;
    const words = content.trim().split(/\s+/).length;
    const common = { ...rest, content: content.trim(), published: published ?? true };
    all.push(
      kind === "pages" ? common : { ...common, date, description: description ?? "", tags: tags ?? [], readTime: readTime ?? `${Math.ceil(words / 200)} min read` },
    );
  }
  return all;
}

async function sync() {
  const { ConvexHttpClient } = await import("convex/browser");
  const { anyApi: api } = await import("convex/server");
  const client = new ConvexHttpClient(url, { logger: false });
  if (adminKey) client.setAdminAuth(adminKey);
  const posts = await client.mutation(api.posts.syncPostsPublic, { posts: await read("blog") });
  const pages = await client.mutation(api.pages.syncPagesPublic, { pages: await read("pages") });
  console.log(JSON.stringify({ posts, pages }));
}

await { stats, sync }[scenario]();
// Not at once: what is written to a pipe may be on its way still.
process.stdout.write("", () => process.exit(0));
