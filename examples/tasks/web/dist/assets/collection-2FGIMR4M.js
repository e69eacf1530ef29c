/* Includes npm convex 1.48.0, Apache License 2.0, Copyright Convex, Inc.; React 19.3.1, Yjs 13.6.33, Tiptap and ProseMirror, MIT License, of their authors. */
import{a}from"./chunk-HWSCGQWO.js";import"./chunk-2NBPSVSS.js";export{a as tasks};
