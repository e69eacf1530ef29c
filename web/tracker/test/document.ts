/** A document for React to render into: happy-dom's window as the global one. */

import { Window } from "happy-dom";

export const globalDocument = {
  register(): void {
    const window = new Window({ url: "https://site.example/" });
    const globals = globalThis as Record<string, unknown>;
    globals["IS_REACT_ACT_ENVIRONMENT"] = true;
    for (const name of ["document", "navigator", "history", "location", "localStorage", "Event", "Node", "HTMLElement", "HTMLIFrameElement"])
      Object.defineProperty(globalThis, name, { value: (window as unknown as Record<string, unknown>)[name], configurable: true });
    // Timers and blobs stay node's, so that nothing waits for happy-dom to be closed.
    const parts = { URL, Blob, Math, Date, setTimeout, clearTimeout, BroadcastChannel: undefined };
    globals["window"] = new Proxy(window, {
      get: (target, name) => {
        if (name in parts) return parts[name as keyof typeof parts];
        const value = Reflect.get(target, name, target) as unknown;
        return typeof value === "function" && !/^[A-Z]/.test(String(name)) ? value.bind(target) : value;
      },
    });
  },
};
