package worker

import "testing"

// XS-1: NONE: NONE with 0 goes on at the stored position, NONE with a wanted number is an explicit position.
func TestXS01(t *testing.T) { play(t, "XS-1") }

// XS-2: acked moves by exactly what was confirmed. XI-3: n above sent or wrong chain: error in that session only,
// position unchanged; a lost ack is healed by the next. XI-4: in flight never above the window; window 1 works.
func TestXS02AndXI03AndXI04(t *testing.T) { play(t, "XS-2_XI-3_XI-4") }

// XS-3: after FAIL no further increment goes out; other nodes go on. XC-1: default redelivery; retry, skip and replace;
// skip without a reason is refused; the audit entry exists.
func TestXS03AndXC01(t *testing.T) { play(t, "XS-3_XC-1") }

// XS-5: FATAL clears the positions. XD-8: FATAL, restart, increment request: refused until a DUMP, even with a valid
// position. IDs n1, n10, xn1 do not touch each other.
func TestXS05AndXD08(t *testing.T) { play(t, "XS-5_XD-8") }

// XE-4: requester's base = target's acked position at the dump; its first increment is the next one. XC-3: a pending entry
// is promoted on success. XE-3: n2 from n1 from master. XB-3: the first request after a DUMP. XE-6: held, then sent.
func TestXE04AndXC03(t *testing.T) { play(t, "XE-4_XC-3") }

// XE-1: master starts at 1. XE-2: an unknown ID is refused unless it proves a position. XQ-5: registering twice moves
// nothing; forgetting removes record, position and pin.
func TestXE01AndXE02(t *testing.T) { play(t, "XE-1_XE-2") }

// XE-5: target fails one: every requester gets FAIL, no dump runs on a half-applied state. XS-4: the target lives, the
// requester sees FAIL and text, one alert; increments go on.
func TestXE05AndXS04(t *testing.T) { play(t, "XE-5_XS-4") }

// XE-8: concurrent DUMPs for one target are served by one snapshot; all requesters get the same position.
func TestXE08(t *testing.T) { play(t, "XE-8") }

// XE-10: unknown or never connected target: FAIL at once. XE-11: an immediate error, never silence.
func TestXE10AndXE11(t *testing.T) { play(t, "XE-10_XE-11") }

// XE-13: old positions stay in force until the new snapshot is loaded and switched.
func TestXE13(t *testing.T) { play(t, "XE-13") }

// XE-14: silent target, slow but alive target, cancel by operator. XD-12: every waiting DUMP ends in SUCC or FAIL.
func TestXE14AndXD12(t *testing.T) { play(t, "XE-14_XD-12") }

// XB-1: the newer session of an ID fences the older one, also after a restart; a clean stop.
func TestXB01(t *testing.T) { play(t, "XB-1") }

// XB-2: target dies during a dump: requesters get FAIL, the target goes on after restart.
func TestXB02(t *testing.T) { play(t, "XB-2") }

// XB-4: requester dies while its DUMP runs: it returns before the deadline, or pending entry, pin and staging go.
func TestXB04(t *testing.T) { play(t, "XB-4") }

// XI-8: behind acked: fed from there if retained, else needs_dump; ahead: goes on; beyond the end, other log ID or
// chain: refused, alert. SS-22: the whole table of the choice at session start.
func TestXI08AndSS22(t *testing.T) { play(t, "XI-8_SS-22") }

// XI-9: in range: next is that one; below the first retained or above end + 1: clean refusal. XD-4: with the valid range
// in the text.
func TestXI09AndXD04(t *testing.T) { play(t, "XI-9_XD-4") }

// XI-10: restart check, then pending DUMPs, then new increments.
func TestXI10(t *testing.T) { play(t, "XI-10") }

// SS-14: the third dump at limit 2 is refused; the pin ends with the dump.
func TestSS14(t *testing.T) { play(t, "SS-14") }

// SS-20: a session opens with client ID, position, resume point of a load; each one missing or wrong.
func TestSS20(t *testing.T) { play(t, "SS-20") }

// SS-35: a pin holds the log for a running DUMP; XR-6: who has lost his place turns to needs_dump.
func TestSS35(t *testing.T) { play(t, "SS-35") }

// XD-2: bad sequence, wrong state, unexpected message type hurt only the sender's session.
func TestXD02(t *testing.T) { play(t, "XD-2") }

// XC-8: two DUMPs of one requester are told apart; a late answer to an old id is ignored and counted.
func TestXC08(t *testing.T) { play(t, "XC-8") }

// A read that fails now is no verdict: no client changes, the node repeats what it said, the feed is tried again. Only what is
// trimmed, set aside or of another chain changes a client.
func TestAReadThatFailsNowChangesNobody(t *testing.T) { play(t, "later") }

// A snapshot whose files are gone is a DUMP that has failed, no more.
func TestASnapshotWhoseFilesAreGoneHasFailed(t *testing.T) { play(t, "unstaged") }

func TestAlertsEndWithWhatTheyStandFor(t *testing.T) { play(t, "alerts") }

// What a comparison of less than everything would let through: an overtaken offer, an emptied or foreign database, a
// snapshot of another history, the manifest or refusal of another DUMP, a client that is to move, the edge of the log.
func TestNothingPassesByHalfAProof(t *testing.T) { play(t, "guards") }

// A database that has data and lost its position is refused; an empty one is fed from 1.
func TestADatabaseThatLostItsPlaceIsNotFedFromOne(t *testing.T) { play(t, "place") }

// Topics are compared with those of the snapshot itself, not with what its target follows now.
func TestASnapshotServesOnlyTheTopicsItHolds(t *testing.T) { play(t, "topics") }

// What protects from processes that were replaced outlives the record of their client; a registered ID stays when its DUMP fails.
func TestForgettingAClientForgetsNoFence(t *testing.T) { play(t, "forget") }

// The name of a process is known to whoever reads the API; it speaks for a client only with the process's token.
func TestASessionIsProvedByItsToken(t *testing.T) { play(t, "tokens") }

// Retry, skip and replace of one increment for a client that has not failed: it is the one that was named, or none.
func TestAnOrderIsAboutTheIncrementItNames(t *testing.T) { play(t, "orders") }

// An increment that needs a feature is held before a node that does not name it, with all behind it and an alert
// that names node and increment, over reconnections and restarts, until the node comes back with it. Others do not
// notice.
func TestFeatures(t *testing.T) { play(t, "features") }

// A target whose database needs work before a snapshot does that while increments go on.
func TestADatabaseIsPreparedBeforeIncrementsAreHeld(t *testing.T) { play(t, "prepare") }

func TestWhyAJoinFailsStandsWherePeopleLook(t *testing.T) { play(t, "join") }

// A target that applies for long, or opens for long, is not silent.
func TestABusyTargetIsNotCalledSilent(t *testing.T) { play(t, "busy") }
