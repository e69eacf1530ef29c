// The rich text of a note: Tiptap on the Y.XmlFragment of the document.

import Collaboration from "@tiptap/extension-collaboration";
import { EditorContent, useEditor } from "@tiptap/react";
import StarterKit from "@tiptap/starter-kit";
import type { Here, Presence } from "halcyon-replicate";
import { useEffect, useMemo } from "react";
import type * as Y from "yjs";
import { Cursors } from "./cursors.js";

/** Who else is on the document, and by what one says where one is oneself. */
export interface Company {
  others: readonly Presence[];
  here: Here | undefined;
}

export function Editor({ doc, fragment, others, here }: { doc: Y.Doc; fragment: Y.XmlFragment } & Company) {
  const cursors = useMemo(() => new Cursors(doc, "note"), [doc]);
  const editor = useEditor(
    {
      extensions: [StarterKit.configure({ undoRedo: false }), Collaboration.configure({ fragment }), cursors.extension()],
      editorProps: { attributes: { id: "note", "aria-label": "Note", role: "textbox", "aria-multiline": "true" } },
    },
    [fragment, cursors],
  );
  useEffect(() => () => editor?.destroy(), [editor]);
  useEffect(() => {
    cursors.here = here;
    cursors.point();
  }, [cursors, here]);
  useEffect(() => cursors.show(others), [cursors, editor, others]);
  const is = (mark: string) => editor?.isActive(mark) ?? false;
  return (
    <section className="editor">
      <div className="tools" role="toolbar" aria-label="Format">
        <button aria-pressed={is("bold")} onClick={() => editor?.chain().focus().toggleBold().run()}>
          <b>B</b>
        </button>
        <button aria-pressed={is("italic")} onClick={() => editor?.chain().focus().toggleItalic().run()}>
          <i>I</i>
        </button>
        <button aria-pressed={is("bulletList")} onClick={() => editor?.chain().focus().toggleBulletList().run()}>
          • List
        </button>
      </div>
      <EditorContent editor={editor} />
    </section>
  );
}
