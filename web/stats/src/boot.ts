/**
 * The script inside of the page, which runs before anything is there. It lets the browser paint
 * what the server has written first, and only then has it fetch the map and run the rest.
 */

const root = document.documentElement;
root.classList.add("early");
// Of what the address narrows the page to, the server has sent no numbers: it does not know.
if (/[#&]site=/.test(location.hash)) root.classList.add("narrowed");
if ("clipboard" in navigator) root.classList.add("clipboard");

const start = (): void => {
  root.classList.add("drawn");
  const script = document.createElement("script");
  script.src = (document.getElementById("script") as HTMLLinkElement).href;
  document.head.append(script);
};

document.addEventListener("DOMContentLoaded", () => {
  // After the frame with all of the page in it. A page that nobody looks at has no frames.
  if (document.hidden) start();
  else requestAnimationFrame(() => setTimeout(start));
});
