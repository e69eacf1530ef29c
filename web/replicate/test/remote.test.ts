import assert from "node:assert/strict";
import test from "node:test";
import { getFunctionName } from "convex/server";
import { type Client, convexRemote, type ReactClient } from "../src/remote.js";

/** Calls as a client of Convex is given them, and what it answers. */
class Fake {
  readonly calls: { name: string; args: Record<string, unknown> }[] = [];
  readonly watched: { name: string; args: unknown; take: (result: never) => unknown }[] = [];
  connected = false;
  changed = (): void => {};

  constructor(readonly answer: (name: string, args: Record<string, unknown>) => unknown) {}

  mutation = async (reference: never, args: never): Promise<unknown> => {
    const name = getFunctionName(reference);
    this.calls.push({ name, args });
    return this.answer(name, args);
  };
  query = this.mutation;
  onUpdate = (reference: never, args: never, take: (result: never) => unknown): (() => void) => {
    this.watched.push({ name: getFunctionName(reference), args, take });
    return () => {};
  };
  connectionState = (): { isWebSocketConnected: boolean } => ({ isWebSocketConnected: this.connected });
  subscribeToConnectionState = (changed: () => void): (() => void) => {
    this.changed = changed;
    return () => {};
  };
}

const bytes = (...values: number[]): Uint8Array<ArrayBuffer> => new Uint8Array(values);

test("writes are sent as buffers of their own", async () => {
  const client = new Fake(() => ({ results: [{ id: "k", status: "applied" }] }));
  const remote = convexRemote(client satisfies Client, "tasks");
  const view = bytes(9, 1, 2, 9).subarray(1, 3);
  assert.deepEqual(await remote.write([{ id: "k", document: "a", bytes: view }]), [{ id: "k", status: "applied" }]);
  assert.deepEqual(client.calls, [{ name: "tasks:replicateBatch", args: { writes: [{ id: "k", document: "a", bytes: bytes(1, 2).buffer }] } }]);
});

test("a recovery in several answers is one", async () => {
  const pages = [
    { documents: [{ document: "a", bytes: bytes(1).buffer, vector: bytes(0).buffer, access: "write" }], cursor: "1" },
    { documents: [{ document: "b", bytes: bytes().buffer, vector: bytes(0).buffer, access: "none" }] },
  ];
  const client = new Fake((_, args) => pages[args["cursor"] === "1" ? 1 : 0]);
  const got = await convexRemote(client, "tasks").recover([{ document: "a", vector: bytes(0) }, { document: "b" }]);
  assert.deepEqual(got, [
    { document: "a", bytes: bytes(1), vector: bytes(0), access: "write" },
    { document: "b", vector: bytes(0), access: "none" },
  ]);
  const asked = [{ document: "a", vector: bytes(0).buffer }, { document: "b" }];
  assert.deepEqual(client.calls.map(({ args }) => args), [{ documents: asked }, { documents: asked, cursor: "1" }]);
});

test("all documents come in pages", async () => {
  const client = new Fake((_, { cursor }) => ({ documents: [{ document: "a", bytes: bytes(1).buffer, exists: true }], seq: 7, ...(cursor ? {} : { cursor: "a" }) }));
  const remote = convexRemote(client, "tasks");
  const documents = [{ document: "a", bytes: bytes(1), exists: true }];
  assert.deepEqual([await remote.all(), await remote.all("a")], [{ documents, seq: 7, cursor: "a" }, { documents, seq: 7 }]);
  assert.deepEqual(client.calls, [
    { name: "tasks:snapshot", args: { limit: 2000, material: false } },
    { name: "tasks:snapshot", args: { limit: 2000, material: false, cursor: "a" } },
  ]);
});

test("changes are followed with either client", () => {
  const answer = { changes: [{ document: "a", bytes: bytes(1).buffer, exists: false }], seq: 7, more: true };
  const want = { changes: [{ document: "a", bytes: bytes(1), exists: false }], cursor: 7, more: true };
  const plain = new Fake(() => undefined);
  const got: unknown[] = [];
  convexRemote(plain, "tasks").watch(5, (changes) => got.push(changes), assert.fail);
  plain.watched[0]?.take(answer as never);
  assert.deepEqual([plain.watched[0]?.name, plain.watched[0]?.args], ["tasks:delta", { seq: 5, limit: 999 }]);

  let [result, changed, failing] = [undefined as unknown, (): void => {}, false];
  const { onUpdate: _, ...rest } = new Fake(() => undefined);
  const react: ReactClient = {
    ...rest,
    watchQuery: () => ({
      onUpdate: (listener) => {
        changed = listener;
        return () => {};
      },
      localQueryResult: () => {
        if (failing) throw new Error("the query failed");
        return result;
      },
    }),
  };
  const errors: Error[] = [];
  convexRemote(react, "tasks").watch(5, (changes) => got.push(changes), (error) => errors.push(error));
  assert.equal(got.length, 1, "no result yet");
  result = answer;
  changed();
  failing = true;
  changed();
  assert.deepEqual(got, [want, want]);
  assert.deepEqual(errors.map(({ message }) => message), ["the query failed"]);
});

test("only a change of the connection is told", () => {
  const client = new Fake(() => undefined);
  const remote = convexRemote(client, "tasks");
  const told: boolean[] = [];
  remote.onConnection(() => told.push(remote.connected()));
  for (const connected of [false, true, true, false]) {
    client.connected = connected;
    client.changed();
  }
  assert.deepEqual(told, [true, false]);
});
