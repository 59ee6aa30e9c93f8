package bench

// Scenarios are all of them, in the order in which they are told.
func Scenarios() []Scenario {
	return []Scenario{
		ingest(), fanout(), latency(50), latency(99),
		wan("wan", "a node 150 ms away, by the round trip", 0),
		wan("wan-narrow", "a node 150 ms away, by the round trip, on a line of 100 Mbit/s", wanRate),
		dumpSQLite(), dumpPostgres(), applySQLite(), applyPostgres(), applyMariaDB(),
		idleMemory(), idleCPU(), idleWake(), restart(), growthAppend(), growthTail(), trim(), trimIngest(),
	}
}
