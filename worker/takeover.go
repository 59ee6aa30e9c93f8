package worker

import (
	"fmt"
	"slices"
	"time"

	"xmq/broker/event"
	"xmq/statedb"
)

// Takeovers: a process replaces one that is connected, under the same ID. Once is a node that died and was started
// again; three in a minute are two supervisors that run the same ID, and each of them has to wait longer until it may
// take over again.
const (
	takeoverMany   = 3
	takeoverSpan   = time.Minute
	takeoverPause  = 5 * time.Second
	takeoverLonger = time.Minute // the longest pause
)

// tookOver notes that the process by has replaced the process of, which was connected.
func (m *Machine) tookOver(of, by statedb.Process) {
	m.takeovers = slices.DeleteFunc(m.takeovers, func(at int64) bool { return m.now-at > int64(takeoverSpan) })
	m.takeovers = append(m.takeovers, m.now)
	text := fmt.Sprintf("%s was replaced by %s", process(of), process(by))
	m.work.Audit = append(m.work.Audit,
		statedb.Audit{Time: m.now, Verb: "takeover", Client: m.client.ID,
			From: m.client.Acked.Seq, To: m.client.Acked.Seq, Reason: text})
	if n := len(m.takeovers); n >= takeoverMany {
		m.raise("takeover", statedb.Critical, 0, fmt.Sprintf("client %s was taken over %d times in a minute, the last "+
			"time %s: two supervisors run this ID, "+
			"or one starts a node that dies. Stop one of them; each waits longer now before it may take over", m.client.ID,
			n, text))
	}
}

// process is a node's process for people.
func process(p statedb.Process) string {
	if p.Host == "" {
		return "a process that does not say where it runs"
	}
	return fmt.Sprintf("pid %d on %s", p.Pid, p.Host)
}

// waitsToTakeOver reports that another process than the connected one has to wait: processes of this ID replace each
// other in turn.
func (m *Machine) waitsToTakeOver(s event.Session) bool {
	n := len(m.takeovers)
	if n < takeoverMany || !m.Connected() || s.Instance == m.client.Session.Instance {
		return false
	}
	pause := min(takeoverPause<<min(n-takeoverMany, 4), takeoverLonger)
	return m.now-m.takeovers[n-1] < int64(pause)
}

// tickTakeovers ends the alert when nobody has taken over for longer than anybody has to wait.
func (m *Machine) tickTakeovers() {
	if n := len(m.takeovers); n > 0 && m.now-m.takeovers[n-1] > int64(takeoverSpan+takeoverLonger) {
		if n >= takeoverMany {
			m.clear("takeover")
		}
		m.takeovers = nil
	}
}
