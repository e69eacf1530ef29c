// Package source tells where a visit came from: it reads the address of the page
// that linked here and the UTM parameters of the address that was opened, and
// gives the kind of source, its channel, a name.
//
// The hosts it knows are in sources.txt, a table that a person can read and
// extend.
package source
