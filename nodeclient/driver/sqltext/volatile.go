package sqltext

import "strings"

// Why something differs.
const (
	ownClock  = "every node asks its own clock: write the time itself"
	ownRandom = "every node draws another random value: write the value itself"
	ownServer = "it is different on every server: write the value itself"
	ownCache  = "numbers are taken in advance, which nobody can put back, and nodes then differ: leave CACHE out"
	noCache   = "numbers are taken in advance, which nobody can put back, and nodes then differ: write NOCACHE"
	ownWriter = "whoever takes numbers beside the increments makes nodes differ: grant SELECT alone"
	ownOrder  = "which rows come first is not said, and nodes may choose differently: add ORDER BY on something unique"
	// the triggers of foreign keys belong to the server
	onlySuperuser = "it needs a superuser: every node whose role is none will FAIL it, as psql would. Write " +
		"TRIGGER USER, which leaves foreign keys in force, or load the rows before the foreign keys are made"
	ownRows    = "in which order the rows come is not said, and nodes may differ: add ORDER BY on something unique"
	ownNumbers = "which row gets which number depends on where rows lie, and nodes may differ: give numbers in an order " +
		"that you say, as with row_number() OVER (ORDER BY ...)"
)

// why gives each of these words the same reason.
func why(reason, list string) map[string]string {
	all := map[string]string{}
	for w := range words(list) {
		all[w] = reason
	}
	return all
}

func merged(maps ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range maps {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

// calls are functions that do not answer the same on every node, by dialect. What a driver pins is not among
// them: NOW() and
// RAND() of MariaDB answer by the increment's broker time, 'localtime' of SQLite is UTC.
var calls = map[Dialect]map[string]string{
	SQLite: merged(
		why(ownRandom, "RANDOM RANDOMBLOB"),
		why(ownServer, "SQLITE_VERSION SQLITE_SOURCE_ID SQLITE_COMPILEOPTION_GET SQLITE_COMPILEOPTION_USED TOTAL_CHANGES")),
	PostgreSQL: merged(
		why(ownClock, "NOW CLOCK_TIMESTAMP STATEMENT_TIMESTAMP TRANSACTION_TIMESTAMP TIMEOFDAY"),
		why(ownRandom, "RANDOM RANDOM_NORMAL SETSEED GEN_RANDOM_UUID UUIDV4 UUIDV7 GEN_RANDOM_BYTES GEN_SALT "+
			"UUID_GENERATE_V1 UUID_GENERATE_V1MC UUID_GENERATE_V4 NORMAL_RAND"),
		why(ownServer, "VERSION INET_CLIENT_ADDR INET_CLIENT_PORT INET_SERVER_ADDR INET_SERVER_PORT TXID_CURRENT "+
			"TXID_CURRENT_IF_ASSIGNED TXID_CURRENT_SNAPSHOT TXID_STATUS CURRENT_DATABASE GETPGUSERNAME CURRENT_SETTING "+
			"CURRENT_QUERY CURRTID2 LO_CREAT LO_CREATE LO_FROM_BYTEA LO_IMPORT MXID_AGE")),
	MariaDB: merged(
		why(ownClock, "SYSDATE"),
		why(ownRandom, "UUID UUID_SHORT UUID_V4 UUID_V7 SYS_GUID RANDOM_BYTES"),
		why(ownServer, "CONNECTION_ID PS_CURRENT_THREAD_ID USER SESSION_USER SYSTEM_USER CURRENT_USER CURRENT_ROLE "+
			"DATABASE SCHEMA "+
			"VERSION LOAD_FILE IS_FREE_LOCK IS_USED_LOCK MASTER_POS_WAIT SOURCE_POS_WAIT MASTER_GTID_WAIT "+
			"ICU_VERSION BENCHMARK "+
			"ROLES_GRAPHML BINLOG_GTID_POS WAIT_FOR_EXECUTED_GTID_SET")),
}

// harmless are functions of PostgreSQL that begin with PG_ and do answer the same, or change no data. All others
// tell of one
// server.
var harmless = words("PG_TYPEOF PG_SLEEP PG_SLEEP_FOR PG_SLEEP_UNTIL PG_NOTIFY PG_ADVISORY_XACT_LOCK " +
	"PG_ADVISORY_XACT_LOCK_SHARED " +
	"PG_ADVISORY_LOCK PG_ADVISORY_LOCK_SHARED PG_ADVISORY_UNLOCK PG_ADVISORY_UNLOCK_ALL PG_ADVISORY_UNLOCK_SHARED " +
	"PG_TRIGGER_DEPTH PG_SIZE_PRETTY PG_SIZE_BYTES PG_GET_SERIAL_SEQUENCE PG_GET_VIEWDEF PG_GET_CONSTRAINTDEF " +
	"PG_GET_INDEXDEF PG_GET_FUNCTIONDEF PG_GET_EXPR PG_TABLE_IS_VISIBLE PG_TYPE_IS_VISIBLE PG_FUNCTION_IS_VISIBLE " +
	"PG_INPUT_IS_VALID PG_CHAR_TO_ENCODING PG_ENCODING_TO_CHAR PG_GET_KEYWORDS PG_PARTITION_TREE " +
	"PG_PARTITION_ANCESTORS " +
	"PG_PARTITION_ROOT PG_CLIENT_ENCODING PG_EXTENSION_CONFIG_DUMP PG_EVENT_TRIGGER_DDL_COMMANDS " +
	"PG_EVENT_TRIGGER_DROPPED_OBJECTS")

// volatileCall is why a call does not answer the same on every node; "" when it does as far as is known.
func volatileCall(d Dialect, name string) string {
	if reason := calls[d][name]; reason != "" {
		return reason
	}
	if d == PostgreSQL && strings.HasPrefix(name, "PG_") && !harmless[name] {
		return ownServer
	}
	return ""
}

// bare are words that answer without being called.
var bare = map[Dialect]map[string]string{
	SQLite: why(ownClock, "CURRENT_TIMESTAMP CURRENT_DATE CURRENT_TIME"),
	PostgreSQL: merged(
		why(ownClock, "CURRENT_TIMESTAMP CURRENT_DATE CURRENT_TIME LOCALTIME LOCALTIMESTAMP"),
		why(ownRandom, "TABLESAMPLE"),
		why(ownServer, "CURRENT_USER SESSION_USER CURRENT_ROLE CURRENT_CATALOG CTID XMIN XMAX CMIN CMAX TABLEOID")),
	MariaDB: why(ownServer, "CURRENT_USER CURRENT_ROLE"),
}

// pinned are the system variables of MariaDB and MySQL that a driver sets alike on every node.
var pinned = words("SQL_MODE TIME_ZONE AUTOCOMMIT TIMESTAMP LAST_INSERT_ID IDENTITY FOREIGN_KEY_CHECKS " +
	"UNIQUE_CHECKS RAND_SEED1 " +
	"RAND_SEED2 CHARACTER_SET_CLIENT CHARACTER_SET_CONNECTION CHARACTER_SET_RESULTS COLLATION_CONNECTION ERROR_COUNT " +
	"WARNING_COUNT SESSION")

// dates are SQLite's functions of time: they ask the clock for 'now', or when they are given nothing.
var dates = words("DATE TIME DATETIME JULIANDAY UNIXEPOCH STRFTIME TIMEDIFF")

// days are literals of PostgreSQL that ask the clock where they are read as a time.
var days = words("NOW TODAY TOMORROW YESTERDAY")

// gatherers are aggregates whose answer depends on the order of the rows, and window functions that do.
var gatherers = words("STRING_AGG ARRAY_AGG JSON_AGG JSONB_AGG JSON_OBJECT_AGG JSONB_OBJECT_AGG XMLAGG " +
	"GROUP_CONCAT JSON_ARRAYAGG " +
	"JSON_OBJECTAGG JSON_GROUP_ARRAY JSON_GROUP_OBJECT JSONB_GROUP_ARRAY JSONB_GROUP_OBJECT")

var rankers = words("ROW_NUMBER FIRST_VALUE LAST_VALUE NTH_VALUE LAG LEAD NTILE")
