package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// Who names another group than the broker's is told so in one sentence after two seconds, over a real NATS server, and
// waits on: node and backup.
func TestThatNobodyServesTheGroupIsSaid(t *testing.T) {
	s := newSite(t)
	s.broker()
	said := "nobody serves group shop at nats://" + s.nats + ": is the broker running, and is the group's name right?"
	for p, sentence := range map[*process]string{
		s.node("master", "", "--group", "shop"): said + " Trying on",
		s.start("dump", "dump", "--from", "master", "--output", filepath.Join(s.dir, "backup"), "--group", "shop", "--broker", "nats://"+s.nats): "xmq: " + said + " Waiting on.",
	} {
		eventually(t, func() error {
			if log := p.log.String(); strings.Count(log, sentence) != 1 || strings.Contains(log, "nothing has come yet") {
				return fmt.Errorf("%s says: %s", p.name, log)
			}
			return nil
		})
		select {
		case <-p.done:
			t.Fatalf("%s has ended: %s", p.name, p.log)
		default:
		}
	}
}
