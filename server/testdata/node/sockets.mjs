// Talks to the WebSocket addresses of a module with the npm package ws:
//   node sockets.mjs http://127.0.0.1:1234 echo
// It exits with 0 when the scenario went as it should.
import assert from "node:assert/strict";
import { once } from "node:events";
import WebSocket from "ws";

const [url, name] = process.argv.slice(2);
const base = url.replace(/^http/, "ws");

async function open(path, protocols, options) {
  const ws = new WebSocket(base + path, protocols, options);
  const queue = [];
  let wake = () => {};
  ws.on("message", (data, isBinary) => {
    queue.push(isBinary ? data : data.toString());
    wake();
  });
  ws.next = async () => {
    while (queue.length === 0) {
      await new Promise((resolve) => { wake = resolve; });
    }
    return queue.shift();
  };
  await once(ws, "open");
  return ws;
}

const scenarios = {
  async echo() {
    const ws = await open("/echo");
    ws.send("héllo");
    assert.equal(await ws.next(), "héllo");
    ws.send(Buffer.from([0, 255, 1]));
    assert.deepEqual(await ws.next(), Buffer.from([0, 255, 1]));
    const large = "x".repeat(900_000);
    ws.send(large);
    assert.equal(await ws.next(), large);
    ws.send("in ", { fin: false });
    ws.ping();
    ws.send("parts", { fin: true });
    assert.equal(await ws.next(), "in parts");
    await new Promise((resolve) => { ws.once("pong", resolve); ws.ping("are you there?"); });
    ws.close(4005, "done");
    const [code] = await once(ws, "close");
    assert.equal(code, 4005);
  },
  async subprotocol() {
    const ws = await open("/chat", ["chat.v1", "chat.v2"], { origin: "https://a.example" });
    assert.equal(ws.protocol, "chat.v2");
    const [code, reason] = await once(ws, "close");
    assert.equal(code, 1000);
    assert.equal(reason.toString(), "");
  },
  async foreign() {
    const ws = new WebSocket(base + "/chat", { origin: "https://b.example" });
    const [error] = await once(ws, "error");
    assert.match(error.message, /403/);
  },
  async path() {
    const ws = await open("/yjs/notes/r%C3%A9sum%C3%A9?token=a%20b", undefined, { headers: { Cookie: "who=me" } });
    assert.equal(await ws.next(), "notes/résumé a b who=me");
  },
  async compressed() {
    const ws = await open("/echo", undefined, { perMessageDeflate: true });
    const text = JSON.stringify(Array.from({ length: 5000 }, (_, i) => ({ i })));
    ws.send(text);
    assert.equal(await ws.next(), text);
    assert.match(ws.extensions, /permessage-deflate/);
    ws.terminate();
  },
};

setTimeout(() => { console.error("too late"); process.exit(1); }, 120_000).unref();
await scenarios[name]();
process.exit(0);
