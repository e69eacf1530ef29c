import assert from "node:assert/strict";
import { test } from "node:test";
import { globalDocument } from "./document.js";
import { createElement, StrictMode, type FunctionComponent } from "react";
import type { ConvexReactClient } from "convex/react";

globalDocument.register();
// What React and the client look for when they are loaded has to be there first.
const { createRoot } = await import("react-dom/client");
const { act } = await import("react");
const { ConvexProvider } = await import("convex/react");
const { getFunctionName } = await import("convex/server");
const { usePageTracking } = await import("../src/react.js");

/** A client that keeps what it is called with. */
class Client {
  readonly calls: { name: string; args: Record<string, string> }[] = [];
  fail = false;
  closed = false;

  mutation(...[reference, args]: [Parameters<typeof getFunctionName>[0], Record<string, string>]): Promise<null> {
    if (this.closed) throw new Error("the client is closed");
    this.calls.push({ name: getFunctionName(reference), args });
    return this.fail ? Promise.reject(new Error("offline")) : Promise.resolve(null);
  }

  of(name: string): unknown[] {
    return this.calls.filter((call) => call.name === name).map(({ args }) => args["path"] ?? args["currentPath"]);
  }
}

const Page: FunctionComponent = () => {
  usePageTracking();
  return null;
};

/** Lets what is due happen: effects, the wait of the tracker for other tabs, deferred stops. */
const settle = (): Promise<void> => act(() => new Promise<void>((done) => setTimeout(done, 80)));

async function mount(client: Client, ...pages: ReturnType<typeof createElement>[]): Promise<() => Promise<void>> {
  const root = createRoot(document.createElement("div"));
  await act(async () =>
    root.render(createElement(StrictMode, null, createElement(ConvexProvider, { client: client as unknown as ConvexReactClient }, ...pages))),
  );
  await settle();
  return async () => {
    await act(async () => root.unmount());
    await settle();
  };
}

test("StrictMode, two components and a client's navigation: each page is one view", async () => {
  history.replaceState(null, "", "/");
  const client = new Client();
  const unmount = await mount(client, createElement(Page, { key: 1 }), createElement(Page, { key: 2 }));
  assert.deepEqual([client.of("stats:recordPageView"), client.of("stats:heartbeat")], [["/"], ["/"]]);
  const id = client.calls[0]!.args["sessionId"];
  assert.deepEqual(client.calls[0]!.args, { path: "/", pageType: "home", sessionId: id });
  assert.equal(localStorage.getItem("markdown_blog_session_id"), id);
  await act(async () => history.pushState(null, "", "/about?x=1"));
  await settle();
  assert.deepEqual(client.of("stats:recordPageView"), ["/", "/about"]);
  assert.equal(client.calls.at(-1)!.args["sessionId"], id);
  await unmount();
  const before = client.calls.length;
  history.pushState(null, "", "/later");
  window.dispatchEvent(new Event("focus"));
  await settle();
  assert.equal(client.calls.length, before, "nothing is sent after the last component is gone");
});

test("a component that is mounted again starts again", async () => {
  const client = new Client();
  const unmount = await mount(client, createElement(Page));
  await unmount();
  const again = await mount(client, createElement(Page));
  assert.deepEqual(client.of("stats:recordPageView"), ["/later", "/later"]);
  await again();
});

test("with another client the page goes on, and the calls go to that", async () => {
  history.replaceState(null, "", "/");
  const [before, after] = [new Client(), new Client()];
  const root = createRoot(document.createElement("div"));
  for (const client of [before, after]) {
    const page = createElement(ConvexProvider, { client: client as unknown as ConvexReactClient }, createElement(Page));
    await act(async () => root.render(createElement(StrictMode, null, page)));
    await settle();
  }
  before.closed = true;
  await act(async () => history.pushState(null, "", "/about"));
  await settle();
  assert.deepEqual([before.of("stats:recordPageView"), after.of("stats:recordPageView")], [["/"], ["/about"]]);
  after.closed = true; // what a client throws then is swallowed too
  await act(async () => history.pushState(null, "", "/later"));
  await settle();
  await act(async () => root.unmount());
  await settle();
});

test("calls that fail are swallowed", async () => {
  const client = new Client();
  client.fail = true;
  const unmount = await mount(client, createElement(Page));
  assert.equal(client.of("stats:heartbeat").length, 1);
  await unmount();
});

test("who asks not to be tracked is no visitor: views are nobody's, and the id of the heartbeats goes with the page", async () => {
  for (const signal of ["doNotTrack", "globalPrivacyControl"]) {
    localStorage.setItem("markdown_blog_session_id", "an older id");
    Object.defineProperty(navigator, signal, { value: signal === "doNotTrack" ? "1" : true, configurable: true });
    const client = new Client();
    const unmount = await mount(client, createElement(Page));
    const [view, beat] = ["stats:recordPageView", "stats:heartbeat"].map((name) => client.calls.find((call) => call.name === name)!.args);
    assert.equal(view!["sessionId"], "", signal);
    assert.match(beat!["sessionId"]!, /^[0-9a-f-]{36}$/, signal);
    assert.notEqual(beat!["sessionId"], "an older id");
    assert.equal(localStorage.length, 0, signal);
    await unmount();
    Object.defineProperty(navigator, signal, { value: undefined, configurable: true });
  }
});
