import assert from "node:assert/strict";
import test from "node:test";
import { realEnvironment } from "../src/environment.js";

test("what comes at once comes in order, in a turn of its own, and not when it was cancelled", async () => {
  const came: string[] = [];
  const { after, cancel } = realEnvironment;
  await new Promise<void>((resolve) => {
    after(0, () => came.push("first"));
    const second = after(0, () => came.push("second"));
    after(0, () => {
      came.push("third");
      after(0, resolve);
    });
    cancel(second);
    cancel(second);
    queueMicrotask(() => came.push("microtask"));
    came.push("now");
  });
  assert.deepEqual(came, ["now", "microtask", "first", "third"]);
});

test("a timer that was cancelled does not run", async () => {
  const { after, cancel } = realEnvironment;
  const timer = after(1, () => assert.fail("it was cancelled"));
  cancel(timer);
  cancel(undefined);
  await new Promise<void>((resolve) => after(20, resolve)); // a browser may run what it should not only later
});

test("in a browser it is the same", async () => {
  const { MessageChannel, setImmediate } = globalThis;
  const channels: MessageChannel[] = [];
  globalThis.MessageChannel = class extends MessageChannel {
    constructor() {
      super();
      channels.push(this);
    }
  };
  Reflect.deleteProperty(globalThis, "setImmediate");
  try {
    // A second copy of the module: the first has found out where it runs.
    const { realEnvironment } = (await import(`${import.meta.resolve("../src/environment.js")}?browser`)) as typeof import("../src/environment.js");
    const came: string[] = [];
    await new Promise<void>((resolve) => {
      realEnvironment.after(0, () => came.push("first"));
      const second = realEnvironment.after(0, () => came.push("second"));
      realEnvironment.after(0, resolve);
      realEnvironment.cancel(second);
      came.push("now");
    });
    assert.deepEqual(came, ["now", "first"]);
  } finally {
    Object.assign(globalThis, { MessageChannel, setImmediate });
    for (const { port1 } of channels) port1.close(); // node would wait for what it may bring
  }
  assert.equal(channels.length, 1);
});
