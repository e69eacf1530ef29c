// Command build bundles the browser code of Halcyon with esbuild's Go library.
//
// Run it from its own folder, after `npm ci` in the folder above:
//
//	cd web && npm ci && cd build && go run .
//
// It writes web/tracker/dist, web/stats/dist, web/replicate/dist and the middles of
// countries of apps/stats/internal/geoip, which are committed so that
// `go build` needs neither node nor npm. With -check it writes nothing and
// fails when a committed file differs from what the sources give. A bundle
// that has outgrown its budget fails the build.
package main
