// A server of Hocuspocus with its defaults, which stores nothing. It prints its port. For each line that it is sent it collects garbage, if node was
// started with --expose-gc, and prints what its heap holds and what is outside of it, in bytes.
import { createInterface } from "node:readline";
import { Server } from "@hocuspocus/server";

const server = new Server({ port: Number(process.argv[2]), address: "127.0.0.1", quiet: true });
await server.listen();
console.log(process.argv[2]);
for await (const _ of createInterface({ input: process.stdin })) {
  // What ends with a connection ends in several turns.
  for (let i = 0; i < 5; i++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    globalThis.gc?.();
  }
  const { heapUsed, external } = process.memoryUsage();
  console.log(JSON.stringify({ heapUsed, external }));
}
