// Package driver is the shelf of target drivers: which of them a target URL names. The port they all implement is
// nodeclient.Database, and drivertest is the suite they all pass.
//
// # Classes of errors
//
// What a database says to a statement of an increment is a FAIL, unless it may pass. Each driver has one table of
// that, in its class.go (redis, sqlite, postgres, mysql), command.go (exec) or request.go (webhook):
//
//	driver    may pass: the same increment comes again
//	sqlite    BUSY, LOCKED, PROTOCOL, FULL, IOERR, READONLY, CANTOPEN, PERM, NOMEM, INTERRUPT
//	postgres  08 but for 08P01, 53, 40001, 40P01, 55P03, 25006, 57P01, 57P02, 57P03, 57014, 58030; a connection that is lost
//	mysql     connections used up (1040, 1203, 1226); the network (1042, 1043, 1129, 1130, 1152, 1156 to 1161, 1184); a server that
//	          stops or a session that is killed (1053, 1077, 1079, 1927, 3168, 3169); interrupted (1028, 1317, 1969, 3024); locks
//	          (1020, 1205, 1213, 1412, 1440, 1613, 1614, 1689, 3058, 3101); read only (1290, 1792, 1836, 3032); disk and memory
//	          (1021, 1023, 1026, 1030, 1037, 1038, 1041, 1114, 1135, 1180, 1181)
//	redis     OOM, READONLY, MASTERDOWN, LOADING, BUSY, UNKILLABLE, MISCONF, NOREPLICAS, CLUSTERDOWN, TRYAGAIN, MOVED, ASK, NOAUTH, WRONGPASS
//	kv, file  everything that a disk says but damage
//	exec      75; a command that was ended before it answered
//	webhook   408, 425, 429, 502, 503, 504; Xmq-State: RETRY; no answer
//
// A function can raise most of the codes of postgres and mysql, and a statement can use up sqlite's memory. So an
// increment that gets the same one apply.Tries times when it is tried alone, while the position can be written, is a
// FAIL (package apply).
//
// FATAL, the loss of the copy, is only what a driver has found itself:
//
//	all       a position of another log or chain, or one that is ahead of what the node left: another hand has written it. One that
//	          is behind, in the same log, is no FATAL: the node goes on from it.
//	sqlite    quick_check of an ordinary table, or the reading of the position, finds damage
//	postgres  the table of the position is gone, has other columns or not exactly one row (42, XX)
//	mysql     the same (1017, 1033, 1034, 1035, 1054, 1194, 1195, 1356, 1712, 1813, 1932)
//	redis     the position is no hash of three fields; a command failed and what came before it could not be taken back
//	kv, file  damage before the end, or data without a position
//	exec      exit code 77; a position command whose answer is no position
//	webhook   Xmq-State: FATAL
package driver
