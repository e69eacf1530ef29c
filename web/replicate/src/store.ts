/**
 * What is kept on the device. All of a collection is in one store:
 *
 *   documents  the merged state of each document, and the row that was read from it
 *   log        updates that are not merged into their documents yet
 *   writes     edits of this device that the server has not confirmed
 *   refusals   edits that the server will not take, one merged update a document
 *   cursor     how far the server's changes have been followed
 *
 * The state of a document is the merge of what all of these have of it. An update is in
 * one place at a time, so an edit is stored once, and moves when it is confirmed.
 */

/** An update of a document: bytes that Y.applyUpdateV2 takes. */
export interface Update {
  readonly document: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** A document as it was last merged. */
export interface StoredDocument extends Update {
  /** What `row` was read with; a row of another reading is not used. */
  readonly reading?: string;
  readonly row?: unknown;
}

/** An edit that the server has not confirmed. */
export interface StoredWrite extends Update {
  /** Its place in the order of edits of the device. */
  readonly n: number;
  /** Its idempotency key, from the moment before it is first sent; its bytes are fixed from then on. */
  readonly id?: string;
}

/** An edit that was set aside because the server refused it. */
export interface Refusal extends Update {
  readonly code: string;
  readonly message: string;
  /** When, in milliseconds since 1970. */
  readonly at: number;
}

/** All that a store has. */
export interface Snapshot {
  readonly documents: StoredDocument[];
  readonly log: Update[];
  readonly writes: StoredWrite[];
  readonly refusals: Refusal[];
  readonly cursor: number;
}

/** What one commit changes, all of it or nothing. */
export interface Change {
  /** New edits. The commit returns their numbers. */
  readonly edits?: readonly Update[];
  /** Writes put under their numbers, in place of what was there. */
  readonly writes?: readonly StoredWrite[];
  /** Numbers of writes that go. */
  readonly drop?: readonly number[];
  readonly log?: readonly Update[];
  /** Documents that are new here. One that is not has its bytes kept beside what there is, as in the log. */
  readonly documents?: readonly StoredDocument[];
  /** Documents whose log is merged into them. The row goes with `entries` updates of the log, no other number. */
  readonly fold?: readonly Fold[];
  readonly refusals?: readonly Refusal[];
  /** Documents whose refusals go. */
  readonly accepted?: readonly string[];
  /** Documents of which everything goes, before anything else of this change. */
  readonly forget?: readonly string[];
  readonly cursor?: number;
}

export interface Fold {
  readonly document: string;
  readonly entries: number;
  readonly reading: string;
  readonly row: unknown;
}

export interface Store {
  load(): Promise<Snapshot>;
  /** Writes with greater numbers than n. */
  writesAfter(n: number): Promise<StoredWrite[]>;
  /** Resolves when the change is stored, with the numbers of its edits; rejects when nothing of it is. */
  commit(change: Change): Promise<number[]>;
  close(): void;
}

/** Where collections are kept on the device. */
export interface Persistence {
  /** Whether other tabs of the browser open the same stores. */
  readonly shared: boolean;
  /** Opens a store. `late` is told of edits that a page which has gone left behind, when they are stored and the store may have been loaded before. */
  open(name: string, late?: (updates: readonly Update[]) => void): Promise<Store>;
  /**
   * Keeps edits whose commit has not ended, without waiting for anything, because the page goes. Those who have the store
   * open, or open it next, have them as if they had been committed, also those that were.
   */
  rescue?(name: string, updates: readonly Update[]): void;
}
