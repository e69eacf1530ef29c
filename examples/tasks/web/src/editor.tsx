// The rich text of a note: Tiptap on the Y.XmlFragment of the document.

import Collaboration from "@tiptap/extension-collaboration";
import { EditorContent, useEditor } from "@tiptap/react";
import StarterKit from "@tiptap/starter-kit";
import { useEffect } from "react";
import type * as Y from "yjs";

export function Editor({ fragment }: { fragment: Y.XmlFragment }) {
  const editor = useEditor(
    {
      extensions: [StarterKit.configure({ undoRedo: false }), Collaboration.configure({ fragment })],
      editorProps: { attributes: { id: "note", "aria-label": "Note", role: "textbox", "aria-multiline": "true" } },
    },
    [fragment],
  );
  useEffect(() => () => editor?.destroy(), [editor]);
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
