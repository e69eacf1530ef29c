// Package geoiptest writes files in the MaxMind DB format, for tests.
package geoiptest
