// Package yjs implements Yjs documents, updates and everything around them.
package yjs
