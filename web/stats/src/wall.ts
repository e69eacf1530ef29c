/** The wall: the page full screen, without what is for reading, for a screen across the room. */

import { byID, setText } from "./dom.js";

/** Whether the page is the wall. */
export function isWall(): boolean {
  return document.documentElement.classList.contains("wall");
}

/** Lets the page be turned into the wall and back; `changed` is told. */
export function startWall(changed: () => void): void {
  const root = document.documentElement;
  const button = byID("wall");
  const set = (on: boolean): void => {
    root.classList.toggle("wall", on);
    setText(button, on ? "Leave full screen" : "Full screen");
    changed();
  };
  const toggle = async (): Promise<void> => {
    const on = !isWall();
    set(on);
    // Where a browser refuses full screen the layout alone is better than nothing.
    if (on) await root.requestFullscreen?.().catch(() => {});
    else if (document.fullscreenElement) await document.exitFullscreen();
  };
  button.addEventListener("click", () => void toggle());
  document.addEventListener("fullscreenchange", () => set(document.fullscreenElement !== null));
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "f" || (event.key === "Escape" && isWall())) void toggle();
  });
}
