// Package driver opens databases: which driver a target URL names. The port they all implement is
// nodeclient.Database, and drivertest is the suite they all pass. README.md beside this file is the chapter about
// databases: what the drivers promise, what each error means, what a DUMP carries.
//
// What a database says to a statement of an increment is a FAIL, unless it may pass. Each driver has one table of
// that, in its class.go (redis, sqlite, postgres, mysql), command.go (exec) or request.go (webhook). A function can
// raise most of the codes of postgres and mysql, and a statement can use up sqlite's memory: so an increment that gets
// the same one apply.Tries times when it is tried alone, while the position can be written, is a FAIL (package apply).
// FATAL, the loss of the copy, is only what a driver has found itself.
package driver
