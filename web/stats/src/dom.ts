/** The few things the page does to its document: text changes in place, rows are kept by key. */

/** The element of that id, which the page's HTML is known to have. */
export function byID<E extends HTMLElement = HTMLElement>(id: string): E {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as E;
}

/** Sets an element's text, touching the document only when it differs. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function make<K extends keyof HTMLElementTagNameMap>(tag: K, className = ""): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (className) element.className = className;
  return element;
}

/**
 * Keeps the children of one element in step with a list. An item's element lives as
 * long as its key is in the list, so that focus, selection and transitions survive.
 */
export class Keyed<Item, Row extends HTMLElement> {
  #rows: Map<string, Row> | undefined;

  constructor(
    private readonly parent: Element,
    private readonly key: (item: Item) => string,
    private readonly create: (item: Item) => Row,
    private readonly update: (row: Row, item: Item) => void,
  ) {}

  show(items: readonly Item[]): void {
    // What the server had put there is shown until now.
    if (!this.#rows) this.parent.replaceChildren();
    const shown = this.#rows ?? new Map<string, Row>();
    const rows = new Map<string, Row>();
    for (const item of items) {
      const key = this.key(item);
      const row = shown.get(key) ?? this.create(item);
      this.update(row, item);
      rows.set(key, row);
    }
    for (const [key, row] of shown) if (!rows.has(key)) row.remove();
    this.#rows = rows;
    // An element that is moved loses the focus, so what stands before the row that has it goes behind it instead.
    const focused = document.activeElement;
    let next = this.parent.firstElementChild;
    for (const row of rows.values()) {
      while (next && next !== row && row.contains(focused)) {
        const before: Element = next;
        next = next.nextElementSibling;
        this.parent.append(before);
      }
      if (row === next) next = next.nextElementSibling;
      else this.parent.insertBefore(row, next);
    }
  }
}
