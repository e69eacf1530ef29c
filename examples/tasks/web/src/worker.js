// Keeps the page for when there is no network: the newest that was loaded. The tasks themselves are in IndexedDB.
const pages = "tasks-page";
const paths = ["/", "/assets/tasks.js", "/assets/tasks.css"];

addEventListener("install", (event) => event.waitUntil(caches.open(pages).then((cache) => cache.addAll(paths))));
addEventListener("activate", (event) => event.waitUntil(clients.claim()));

addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !paths.includes(new URL(request.url).pathname)) return;
  event.respondWith(
    fetch(request)
      .then(async (answer) => {
        if (answer.ok) await (await caches.open(pages)).put(request, answer.clone());
        return answer;
      })
      .catch(async (error) => {
        const kept = await caches.match(request, { ignoreSearch: true });
        if (kept) return kept;
        throw error;
      }),
  );
});
