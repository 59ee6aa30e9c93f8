package mysql

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"xmq/nodeclient/driver/internal/snapstream"
)

// flavour is in what MariaDB and MySQL differ, as far as a target must know.
type flavour struct {
	name string // of the product
	// oldest is the first version XMQ runs on: its major number times 100, and the minor one. why says what the ones
	// before lack.
	oldest int
	why    string

	// pins are the settings under which a statement means the same on every node. sqlMode is the server's own default.
	pins, sqlMode, collation string
	// idle are further ones, of a session that is to end soon when nobody uses it.
	idle string
	// forLong are the settings of a session that may wait long for its reader.
	forLong string
	// loading are the settings under which rows come in as they went out.
	loading string
	// unfit asks for what is wrong with the server: how a sentence goes on that begins with it, or nothing.
	unfit string
	// waits asks whose rows a session waits for; %s is its id.
	waits string
	// replaces are the kinds of things that CREATE OR REPLACE replaces.
	replaces []string
	// inline says that a statement can carry its settings: SET STATEMENT ... FOR.
	inline bool
	// closed says that of a table that is not open the server tells the last number instead of the next.
	closed bool
	// guards says that what an administrator has made can be dropped by administrators only.
	guards bool
	// hints are what to do about an error number that increments of no other flavour meet.
	hints map[uint16]string
	// gone are error numbers that mean only here that the session has been ended.
	gone []uint16

	stream snapstream.Format // what a snapshot writes; doc.go draws it
}

// errFlavour marks a server that is of no flavour.
var errFlavour = errors.New("the server cannot be a target")

var idleSeconds = strconv.Itoa(int(idleTime / time.Second))

// settings are the pins that both know. Each is a value: DEFAULT is that of the server as its administrator set it, but
// for timestamp, of which it is the clock.
const settings = "time_zone = '+00:00', autocommit = 1, completion_type = 0, foreign_key_checks = 1, unique_checks " +
	"= 1, default_storage_engine = InnoDB, " +
	"auto_increment_increment = 1, auto_increment_offset = 1, innodb_lock_wait_timeout = " + lockSeconds +
	", lock_wait_timeout = " + lockSeconds +
	", sql_safe_updates = 0, sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_auto_is_null = 0, " +
	"div_precision_increment = 4, default_week_format = 0, " +
	"group_concat_max_len = 1048576, max_sort_length = 1024, lc_time_names = 'en_US', lc_messages = 'en_US', " +
	"sql_quote_show_create = 1, max_sp_recursion_depth = 0, updatable_views_with_limit = 1, " +
	"innodb_ft_enable_stopword = 1, innodb_ft_user_stopword_table = NULL, timestamp = DEFAULT"

// The modes: what does not fit a column is an error. In MariaDB zero dates are dates.
const (
	mariaMode = "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION"
	mysqlMode = "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO," +
		"NO_ENGINE_SUBSTITUTION"
)

var mariaDB = flavour{
	name: "MariaDB", oldest: 10*100 + 6, why: "whose changes of the schema are atomic",
	sqlMode: mariaMode, collation: "utf8mb4_general_ci",
	pins: "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci; SET SESSION " + settings + ", sql_mode = '" + mariaMode +
		"', tx_isolation = 'REPEATABLE-READ', tx_read_only = 0, " +
		"check_constraint_checks = 1, max_statement_time = 0, innodb_strict_mode = 1, sql_if_exists = 0, " +
		"default_regex_flags = '', old_mode = 'UTF8_IS_UTF8MB3', max_recursive_iterations = 1000, " +
		"standard_compliant_cte = 1, system_versioning_alter_history = 'ERROR', " +
		"system_versioning_asof = DEFAULT" + // which here is none, whatever the server's is
		"/*M!101100 , system_versioning_insert_history = 0 */" +
		"/*M!100609 , explicit_defaults_for_timestamp = 1 */", // before, only a start of the server sets it
	idle:    "wait_timeout = " + idleSeconds + ", idle_transaction_timeout = " + idleSeconds,
	forLong: "SET SESSION wait_timeout = 604800, net_write_timeout = 604800, idle_transaction_timeout = 0; ",
	loading: "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', foreign_key_checks = 0, check_constraint_checks = 0, " +
		"innodb_strict_mode = 0; ",
	unfit: "SELECT CASE WHEN @@secure_timestamp IN ('YES', 'REPLICATION') THEN concat('runs with secure_timestamp=', " +
		"@@secure_timestamp, ', so that NOW() could not be the same on every node: start it with NO') " +
		"WHEN @@wsrep_on THEN 'is part of a Galera cluster, which knows neither the locks nor the transactions that hold " +
		"a target for its node' END",
	waits: fmt.Sprintf(rowBlockers, "information_schema.innodb_lock_waits", "%s", "requesting_trx_id",
		"blocking_trx_id"),
	replaces: []string{"VIEW", "PROCEDURE", "FUNCTION", "TRIGGER"},
	inline:   true,
	stream:   snapstream.Format{Name: "mysql-dump/1", Magic: "XMQMYDMP", Version: 1},
}

var mySQL = flavour{
	name: "MySQL", oldest: 8*100 + 4, why: "with which XMQ's promises were tested",
	sqlMode: mysqlMode, collation: "utf8mb4_0900_ai_ci",
	pins: "SET NAMES utf8mb4 COLLATE utf8mb4_0900_ai_ci; SET SESSION " + settings + ", sql_mode = '" + mysqlMode +
		"', transaction_isolation = 'REPEATABLE-READ', transaction_read_only = 0, " +
		"max_execution_time = 0, cte_max_recursion_depth = 1000, windowing_use_high_precision = 1, " +
		"block_encryption_mode = 'aes-128-ecb', " +
		"information_schema_stats_expiry = 0, show_gipk_in_create_table_and_information_schema = 1",
	idle:    "wait_timeout = " + idleSeconds,
	forLong: "SET SESSION wait_timeout = 604800, net_write_timeout = 604800; ",
	loading: "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', foreign_key_checks = 0; ",
	// Some settings may be changed by administrators only.
	unfit: "SELECT CASE WHEN NOT @@innodb_strict_mode THEN 'runs with innodb_strict_mode=OFF, so that a table could " +
		"come out otherwise than it was asked for: start it with ON' " +
		"WHEN @@sql_generate_invisible_primary_key THEN 'runs with sql_generate_invisible_primary_key=ON, so that tables " +
		"could have other columns than on another node: start it with OFF' " +
		"WHEN NOT @@explicit_defaults_for_timestamp THEN 'runs with explicit_defaults_for_timestamp=OFF, so that " +
		"TIMESTAMP columns could come out otherwise than on another node: start it with ON' " +
		"WHEN EXISTS (SELECT 1 FROM information_schema.plugins WHERE plugin_name = 'group_replication' AND plugin_status " +
		"= 'ACTIVE') " +
		"THEN 'is a member of a replication group, which does not know the locks that hold a target for its node' END",
	waits: fmt.Sprintf(rowBlockers, "performance_schema.data_lock_waits", "%s", "requesting_engine_transaction_id",
		"blocking_engine_transaction_id"),
	replaces: []string{"VIEW"},
	guards:   true,
	closed:   true,
	hints: map[uint16]string{4091: "start the server with xa_detach_on_prepare=OFF for procedures that make " +
		"temporary tables"},
	gone:   []uint16{4031}, // the client was idle; MariaDB's is a missing trigger
	stream: snapstream.Format{Name: "mysql8-dump/1", Magic: "XMQM8DMP", Version: 1},
}

// flavourOf judges what version() answers.
func flavourOf(version string) (*flavour, error) {
	f := &mySQL
	for _, other := range []string{"TiDB", "Vitess", "OceanBase", "aurora", "SingleStore"} {
		if strings.Contains(strings.ToLower(version), strings.ToLower(other)) {
			return nil, fmt.Errorf("%w: it is %s, and XMQ's promises were tested with MariaDB and MySQL only", errFlavour,
				version)
		}
	}
	if strings.Contains(version, "MariaDB") {
		f = &mariaDB
	}
	numbers := strings.SplitN(version, ".", 3)
	major, err1 := strconv.Atoi(numbers[0])
	minor, err2 := strconv.Atoi(numbers[min(1, len(numbers)-1)])
	if err1 != nil || err2 != nil || major*100+minor < f.oldest {
		return nil, fmt.Errorf("%w: it is %s %s, and a target needs %d.%d or later, %s", errFlavour, f.name, version,
			f.oldest/100, f.oldest%100, f.why)
	}
	return f, nil
}
