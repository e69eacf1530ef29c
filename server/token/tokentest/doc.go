// Package tokentest is an identity provider for tests: discovery, keys that rotate, and tokens of any kind, good and bad.
//
// [New] starts an [Issuer], which listens until the test ends. It signs with a new key after each [Issuer.Rotate], and publishes its last two
// keys. [Issuer.Token] signs a token for a user, with whatever claims; [Sign] signs anything with any key, as an attacker would.
package tokentest
