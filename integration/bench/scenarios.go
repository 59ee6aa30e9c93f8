package bench

// Scenarios are all of them, in the order in which they are told.
func Scenarios() []Scenario {
	return []Scenario{
		ingest(), fanout("fanout", 4, "30x jetstream-sync, 10x jetstream"), fanout("fanout-16", 16, "10x jetstream"),
		latency(50), latency(99),
		wan("wan", "a node 150 ms away, by the round trip", 0),
		wan("wan-narrow", "a node 150 ms away, by the round trip, on a line of 100 Mbit/s", wanRate),
		dumpSQLite(), dumpPostgres(), applySQLite(), applyPostgres(), applyMariaDB(),
		idleMemory(), idleCPU(), idleWake(), restart(), growthAppend(), growthTail(), growthRestart(), growthPositions(),
		trim(), trimIngest(),
	}
}
