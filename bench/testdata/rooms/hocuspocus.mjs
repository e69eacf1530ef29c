// A server of Hocuspocus with its defaults, which stores nothing. It prints its port.
import { Server } from "@hocuspocus/server";

const server = new Server({ port: Number(process.argv[2]), address: "127.0.0.1", quiet: true });
await server.listen();
console.log(process.argv[2]);
