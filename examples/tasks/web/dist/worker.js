// Keeps the page for when there is no network: the newest that was loaded. The tasks themselves are in IndexedDB.
const pages = "tasks-page";
const files = ["/","/assets/chunk-2NBPSVSS.js","/assets/chunk-DVOACHJH.js","/assets/chunk-HWSCGQWO.js","/assets/collection-2FGIMR4M.js","/assets/editor-2CP36PIB.js","/assets/tasks-LURZHTGQ.css","/assets/tasks-YWYC7MIR.js"]; // the page and all its parts, the editor too; the build fills them in

addEventListener("install", (event) => event.waitUntil(caches.open(pages).then((cache) => cache.addAll(files))));
addEventListener("activate", (event) => event.waitUntil(Promise.all([clients.claim(), sweep()])));

/** Drops the parts of pages before this one, which nobody has open any more. */
async function sweep() {
  const cache = await caches.open(pages);
  for (const request of await cache.keys()) if (!files.includes(new URL(request.url).pathname)) await cache.delete(request);
}

addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== location.origin) return;
  if (pathname === "/") event.respondWith(load(request).catch((error) => kept(request).then((answer) => answer ?? Promise.reject(error))));
  // The name of a part says what is in it.
  else if (/^\/assets\/.*-\w{8}\./.test(pathname)) event.respondWith(kept(request).then((answer) => answer ?? load(request)));
});

const kept = (request) => caches.match(request, { ignoreSearch: true });

async function load(request) {
  const answer = await fetch(request);
  if (answer.ok) await (await caches.open(pages)).put(request, answer.clone());
  return answer;
}
