package worker

import "testing"

// NONE with 0 goes on at the stored position; NONE with a wanted number is an explicit position (XS-1).
func TestXS01(t *testing.T) { play(t, "a_session_goes_on_at_the_stored_position") }

// Acked moves by exactly what was confirmed. An ack above sent, or of a wrong chain, is an error in that session only
// and moves nothing; a lost ack is healed by the next. What is in flight never exceeds the window, and a window of 1
// works (XS-2, XI-3, XI-4).
func TestXS02AndXI03AndXI04(t *testing.T) { play(t, "an_ack_moves_a_client_by_what_was_sent") }

// After FAIL no further increment goes out; other nodes go on. It is delivered again by default; retry, skip and
// replace work; skip without a reason is refused; the audit entry exists (XS-3, XC-1).
func TestXS03AndXC01(t *testing.T) { play(t, "a_failed_increment_stops_its_client_until_an_order") }

// FATAL clears the positions. After a restart an increment request is refused until a DUMP, even with a valid position.
// IDs n1, n10, xn1 do not touch each other (XS-5, XD-8).
func TestXS05AndXD08(t *testing.T) { play(t, "a_lost_copy_must_join_again") }

// The requester's base is the target's acked position at the dump, and its first increment is the next one. A pending
// entry is promoted on success. n2 joins from n1, which joined from master. Increments are held, then sent (XE-4, XC-3,
// XE-3, XB-3, XE-6).
func TestXE04AndXC03(t *testing.T) { play(t, "a_dump_from_request_to_promotion") }

// The master starts at 1. An unknown ID is refused unless it proves a position. Registering twice moves nothing;
// forgetting removes record, position and pin (XE-1, XE-2, XQ-5).
func TestXE01AndXE02(t *testing.T) { play(t, "only_a_master_starts_without_a_dump") }

// A target that fails an increment in flight runs no dump: every requester gets FAIL with the text, there is one alert,
// the target lives and increments go on (XE-5, XS-4).
func TestXE05AndXS04(t *testing.T) { play(t, "a_target_that_fails_before_its_dump") }

// Concurrent DUMPs for one target are served by one snapshot; all requesters get the same position (XE-8).
func TestXE08(t *testing.T) { play(t, "one_snapshot_serves_concurrent_requests") }

// A DUMP of an unknown or never connected target is answered FAIL at once, one of an empty or malformed ID with an
// error, never with silence (XE-10, XE-11).
func TestXE10AndXE11(t *testing.T) { play(t, "a_dump_of_an_unknown_target_is_answered") }

// The old positions stay in force until the new snapshot is loaded and switched to (XE-13).
func TestXE13(t *testing.T) { play(t, "old_positions_hold_until_the_switch") }

// A silent target loses its lease, a slow one that lives keeps it, an operator cancels: every waiting DUMP ends in SUCC
// or FAIL (XE-14, XD-12).
func TestXE14AndXD12(t *testing.T) { play(t, "every_waiting_dump_ends") }

// The newer session of an ID fences the older one, also after a restart; a clean stop (XB-1).
func TestXB01(t *testing.T) { play(t, "the_newer_session_replaces_the_older") }

// When the target dies during a dump, requesters get FAIL, and the target goes on after its restart (XB-2).
func TestXB02(t *testing.T) { play(t, "a_target_dies_during_a_dump") }

// When the requester dies while its DUMP runs, it returns before the deadline, or pending entry, pin and staging go
// (XB-4).
func TestXB04(t *testing.T) { play(t, "a_requester_dies_during_its_dump") }

// A stored position before acked is fed from there if retained, else needs a DUMP; after acked it goes on; beyond the
// end, of another log ID or chain, it is refused with an alert. The whole table of the choice at session start (XI-8,
// SS-22).
func TestXI08AndSS22(t *testing.T) { play(t, "where_a_session_begins") }

// In range, the next increment is that one; below the first retained or above the end + 1 it is refused, with the valid
// range in the text (XI-9, XD-4).
func TestXI09AndXD04(t *testing.T) { play(t, "an_explicit_position_must_lie_in_the_log") }

// First the restart check, then pending DUMPs, then new increments (XI-10).
func TestXI10(t *testing.T) { play(t, "a_turn_serves_dumps_before_increments") }

// The third dump at limit 2 is refused; the pin ends with the dump (SS-14).
func TestSS14(t *testing.T) { play(t, "too_many_dumps_are_refused") }

// A session opens with client ID, position, resume point of a load; each one missing or wrong is refused (SS-20).
func TestSS20(t *testing.T) { play(t, "what_a_session_must_name") }

// A pin keeps the log for a running DUMP; a client whose increments were freed turns to needs_dump (SS-35, XR-6).
func TestSS35(t *testing.T) { play(t, "a_running_dump_keeps_the_log") }

// A bad sequence, a wrong state, an unexpected message type hurt only the sender's session (XD-2).
func TestXD02(t *testing.T) { play(t, "nonsense_hurts_only_its_sender") }

// Two DUMPs of one requester are told apart; a late answer to an old id is ignored and counted (XC-8).
func TestXC08(t *testing.T) { play(t, "two_dumps_of_one_requester") }

// A read that fails now is no verdict: no client changes, the node repeats what it said, the feed is tried again. Only
// what is trimmed, set aside or of another chain changes a client.
func TestAReadThatFailsNowChangesNobody(t *testing.T) {
	play(t, "a_read_that_fails_now_changes_nobody")
}

// A snapshot whose files are gone is a DUMP that has failed, no more.
func TestASnapshotWhoseFilesAreGoneHasFailed(t *testing.T) {
	play(t, "a_snapshot_whose_files_are_gone")
}

func TestAlertsEndWithWhatTheyStandFor(t *testing.T) { play(t, "alerts_end_with_their_cause") }

// What a comparison of less than everything would let through: an overtaken offer, an emptied or foreign database, a
// snapshot of another history, the manifest or refusal of another DUMP, a client that is to move, the edge of the log.
func TestNothingPassesByHalfAProof(t *testing.T) { play(t, "nothing_passes_by_half_a_proof") }

// A database that has data and lost its position is refused; an empty one is fed from 1.
func TestADatabaseThatLostItsPlaceIsNotFedFromOne(t *testing.T) {
	play(t, "a_database_that_lost_its_position")
}

// Topics are compared with those of the snapshot itself, not with what its target follows now.
func TestASnapshotServesOnlyTheTopicsItHolds(t *testing.T) {
	play(t, "a_snapshot_serves_only_its_topics")
}

// What protects from processes that were replaced outlives the record of their client; a registered ID stays when its
// DUMP fails.
func TestForgettingAClientForgetsNoFence(t *testing.T) {
	play(t, "forgetting_a_client_keeps_its_fences")
}

// The name of a process is known to whoever reads the API; it speaks for a client only with the process's token.
func TestASessionIsProvedByItsToken(t *testing.T) { play(t, "a_session_is_proved_by_its_token") }

// Retry, skip and replace of one increment for a client that has not failed: it is the one that was named, or none.
func TestAnOrderIsAboutTheIncrementItNames(t *testing.T) { play(t, "an_order_names_its_increment") }

// An increment that was passed over is applied outside the order: by one process that is told until it answers, once;
// who cannot, or need not, is refused; and an answer that never came is unknown.
func TestAnIncrementIsAppliedOutsideTheOrder(t *testing.T) {
	play(t, "a_skipped_increment_is_applied_outside_the_order")
}

// An increment that needs a feature is held before a node that does not name it, with all after it and an alert
// that names node and increment, over reconnections and restarts, until the node comes back with it. Others do not
// notice.
func TestFeatures(t *testing.T) { play(t, "an_older_node_is_held_before_what_it_does_not_know") }

// A target whose database needs work before a snapshot does that while increments go on.
func TestADatabaseIsPreparedBeforeIncrementsAreHeld(t *testing.T) {
	play(t, "a_database_is_prepared_before_increments_are_held")
}

func TestWhyAJoinFailsStandsWherePeopleLook(t *testing.T) { play(t, "why_a_join_failed_is_seen") }

// A target that applies for long, or opens for long, is not silent.
func TestABusyTargetIsNotCalledSilent(t *testing.T) { play(t, "a_busy_target_is_not_silent") }
