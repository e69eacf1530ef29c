// Package cli turns modules into a program.
//
// [Main] gives any app every verb of Halcyon: serve, run, version, and the
// commands of its modules as `PROGRAM MODULE COMMAND`. A whole program is
//
//	func main() { cli.Main(guestbook.Module()) }
//
// Flags are grouped by room (--server.listen, --storage.dir); a flag wins over
// its environment variable (HALCYON_SERVER_LISTEN, HALCYON_STORAGE_DIR), which
// wins over the configuration file, which wins over the default. Data goes to standard output, everything said to a
// person to standard error. The exit status is 0 when all went well, 1 when
// something failed and 2 when the program was called or configured wrongly.
//
// What Main creates on disk is readable by its user only.
package cli
