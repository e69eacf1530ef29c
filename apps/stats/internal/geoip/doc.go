// Package geoip knows where addresses are, as far as files in the MaxMind DB format tell,
// and where the middle of a country is.
package geoip
