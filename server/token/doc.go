// Package token decides whose a token is.
//
// A [Verifier] knows the identity providers that an operator trusts, each a [Provider], and fetches the keys with which they sign: by OpenID
// Connect discovery, or from a JSON Web Key Set at a URL, in a file or in a data URI. [Verifier.Verify] takes the token of a user, a JSON
// Web Token, and returns the identity that it is for and when it ends, or an [Error] whose code says what is wrong.
//
// # Life
//
// [New] checks the providers and fetches nothing. [Verifier.Run] fetches keys ahead of need and renews them, until its context ends; a
// provider that can't be reached is tried again and again, and named in the log. Verify works without Run too: it fetches what it lacks.
//
// # What is accepted
//
// Signatures by RS256, ES256 and EdDSA (Ed25519), with keys that are fit for them: no symmetric keys, no tokens without a signature. The
// issuer must be that of a provider and the audience hold its application. The token must not have ended, and have begun. Clocks may
// differ by [Leeway].
//
// # Limits
//
// A token has at most 16 KiB, a document of a provider 1 MiB, a key set 100 keys. A token that names an unknown key has the keys fetched
// again, which happens 3 times in 30 s for each provider at most, so that made-up tokens do not turn the server against it.
package token
