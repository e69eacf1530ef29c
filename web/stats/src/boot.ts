/**
 * The script inside of the page, which runs before anything is there. It lets the browser show
 * what the server has written first: the map and the scripts are fetched once that is on the
 * screen, so that they take no processor from it.
 */

const root = document.documentElement;
root.classList.add("early");
// Of what the address narrows the page to, the server has sent no numbers: it does not know.
if (/[#&]site=/.test(location.hash)) root.classList.add("narrowed");
if ("clipboard" in navigator) root.classList.add("clipboard");

const start = (): void => {
  root.classList.add("drawn");
  for (const source of [root.dataset["script"]!, "/track.js"]) {
    const script = document.createElement("script");
    script.src = source;
    script.async = false; // one after the other: the first takes the key out of the address
    document.head.append(script);
  }
};

/** When it starts all the same, in milliseconds: a page that nobody looks at is never painted, nor is every page that is made a picture of. */
const PAINT_WAIT = 500;

document.addEventListener("DOMContentLoaded", () => {
  let started = false;
  const once = (): void => {
    if (!started) start();
    started = true;
  };
  setTimeout(once, document.hidden ? 0 : PAINT_WAIT);
  new PerformanceObserver(once).observe({ type: "paint", buffered: true }); // a browser without says nothing of it
});
