//go:build !unix

package cli

// restrictNewFiles does nothing: the folder's own access list decides.
func restrictNewFiles() {}
