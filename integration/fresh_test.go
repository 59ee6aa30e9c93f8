package integration

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/nodeclient"
	"xmq/statedb"
	"xmq/worker"
)

// dumps are those that the broker lists.
func (h *cluster) dumps() (all []api.DumpView) {
	require.NoError(h.t, getJSON(context.Background(), "http://"+h.cfg.HTTPAddr+"/v1/dumps", &all))
	return all
}

// A DUMP holds the data of now: what was mended by hand in the target is in it, though a snapshot of before is kept.
// Who says that a kept one will do gets that; a person can drop it.
func TestADumpHoldsTheDataOfNow(t *testing.T) {
	h := newCluster(t)
	h.publish("CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER)")
	h.publish("INSERT INTO item VALUES (1, 0)")
	master := h.node("master", "")
	n1 := h.node("n1", "master")
	n1.wants(t, "SELECT n FROM item", "0")
	exec1(t, master.path, "UPDATE item SET n = 9")
	n2 := h.node("n2", "master")
	n2.wants(t, "SELECT n FROM item", "9")
	require.Len(t, h.dumps(), 2)

	exec1(t, master.path, "UPDATE item SET n = 10")
	n3 := h.node("n3", "master", func(o *nodeclient.Options) { o.Reuse = true })
	n3.wants(t, "SELECT n FROM item", "9")
	require.Len(t, h.dumps(), 2)

	eventually(t, func() error {
		var v worker.View
		if err := getJSON(t.Context(), "http://"+h.cfg.HTTPAddr+"/v1/clients/n3", &v); err != nil ||
			v.State != statedb.Following {
			return fmt.Errorf("n3 is %s, %v", v.State, err)
		}
		return nil
	})
	h.send("/v1/clients/n3/redump", "application/json", "", `{"reason": "the master was mended", "confirm": true}`)
	n3.wants(t, "SELECT n FROM item", "10")
	var kept []api.DumpView
	eventually(t, func() error {
		kept = h.dumps()
		for _, d := range kept {
			if d.State != "sealed" || len(d.Waiting) > 0 {
				return fmt.Errorf("DUMP %s is %s, %v wait", d.ID, d.State, d.Waiting)
			}
		}
		return nil
	})
	require.Len(t, kept, 3, "an order is about the data of now, whatever its node says")
	for _, d := range kept {
		require.NotNil(t, d.Opened)
		res, err := http.Post("http://"+h.cfg.HTTPAddr+"/v1/dumps/"+d.ID.String()+"/drop", "application/json",
			strings.NewReader(`{"reason":"a test"}`))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode)
	}
	require.Empty(t, h.dumps())
}
