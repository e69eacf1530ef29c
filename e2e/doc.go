// Package e2e has the tests of whole programs. It has no code of its own.
//
// The tests build Halcyon's binary, start it as a process of its own with its
// own data, and use it as its users do: with the official npm clients under
// node, with headless Chromium, and with a client written in Go that speaks the
// sync protocol like npm's and checks every rule of it on the way. Nothing is
// reached except through the command line, the network and signals.
//
//	go test ./e2e                                  what runs in a minute
//	go test ./e2e -run Crash -e2e.seed 42 -v       the kills of an earlier run
//	go test ./e2e -run Browser -e2e.long -v        waits for the real timeouts
//	go test ./e2e -run 'TestTasks(Figures|Answers)' -e2e.figures -v     measures documents in Chromium
//	go test ./e2e -artifacts -outputdir DIR        keeps the screenshots
//
// Without node, npm or Chromium the tests that need them say so and are
// skipped, unless HALCYON_E2E=required is in the environment.
//
// testdata/fixture is Halcyon's program with a module for the crash tests and
// visitors who leave after seconds. testdata/clients holds the npm clients and
// the script by which the tests steer them.
package e2e
