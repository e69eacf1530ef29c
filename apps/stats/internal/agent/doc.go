// Package agent reads the header User-Agent: which family of browser, system
// and device a request comes from, or which robot.
//
// [Parse] and [Robot] look for the words of agents.txt, a table that a person
// can read and extend. Only families are told, never a version: a version is of
// no use to a site's owner, and would make visitors easier to tell apart.
package agent
