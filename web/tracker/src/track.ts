import { track } from "./script.js";

track(window, document.currentScript as HTMLScriptElement | null);
