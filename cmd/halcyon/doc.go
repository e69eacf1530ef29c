// Command halcyon serves a small site with live statistics, on a database that
// it keeps in a folder beside it.
//
//	halcyon serve
//	halcyon stats import access.log
//	halcyon run stats:getStats
//
// main.go hands the modules to package cli, and apps.go is the list of them.
package main
