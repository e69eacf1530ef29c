import { track } from "./tracker.js";

track(window, document.currentScript as HTMLScriptElement | null);
