/** What the tracker reaches the browser through; the tests bring one of their own. */

declare global {
  interface Window {
    /** Set once the script runs: a page that includes it twice counts once. */
    halcyonTracker?: boolean;
    /** Sends a custom event. What is called before the script is there waits in `q`. */
    halcyon?: Halcyon;
  }
  interface Navigator {
    readonly globalPrivacyControl?: boolean;
  }
  interface Document {
    readonly prerendering?: boolean;
  }
}

export type Browser = Window & typeof globalThis;

/** The values of an event's properties. */
export type Props = Readonly<Record<string, string | number | boolean | null>>;

export interface Halcyon {
  (name: string, options?: { readonly props?: Props }): void;
  /** Calls made before the script was there. */
  q?: Iterable<Parameters<Halcyon>>;
}
