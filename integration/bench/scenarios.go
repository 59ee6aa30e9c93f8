package bench

// Scenarios are all of them, in the order in which they are told.
func Scenarios() []Scenario {
	return []Scenario{ingest(), fanout()}
}
