package api

import (
	"net/http"
	"time"

	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/worker"
)

// DumpView is one DUMP as the outside sees it.
type DumpView struct {
	ID         event.DumpID `json:"id"`
	Target     string       `json:"target"`
	Requesters []string     `json:"requesters"` // waiting and served
	Waiting    []string     `json:"waiting"`
	Seq        uint64       `json:"seq"`
	State      string       `json:"state"`
	PauseMS    float64      `json:"pause_ms"`
	Bytes      int64        `json:"bytes"`
	Chunks     int          `json:"chunks"`
	DurationMS int64        `json:"duration_ms"`
	Format     string       `json:"format,omitempty"`
	Opened     *time.Time   `json:"opened,omitempty"` // when the snapshot was opened: it holds the data of then
	Error      string       `json:"error,omitempty"`
	// NotLoaded is why requesters could not use it, in their own words.
	NotLoaded []DumpTrouble `json:"not_loaded,omitempty"`
	// LeftOut is what requesters that have loaded it had to leave out.
	LeftOut []DumpTrouble `json:"left_out,omitempty"`
}

// DumpTrouble is what one requester says of a DUMP.
type DumpTrouble struct {
	ID   string    `json:"id"`
	Text string    `json:"text"`
	Time time.Time `json:"time"`
}

func troubles(all []dumpflow.Trouble) (views []DumpTrouble) {
	for _, t := range all {
		views = append(views, DumpTrouble{ID: t.ID, Text: t.Text, Time: At(t.Time)})
	}
	return views
}

func (h *Handler) dumpView(d dumpflow.Dump) DumpView {
	v := DumpView{ID: d.ID, Target: d.Target, Requesters: append([]string{}, d.Served...), Waiting: []string{},
		Seq: d.Pos.Seq, State: string(d.Phase),
		PauseMS: d.PauseMS, Bytes: d.Size, Chunks: h.Broker.Chunks(d.ID), Format: d.Format, Error: d.Error,
		NotLoaded: troubles(d.NotLoaded), LeftOut: troubles(d.LeftOut)}
	if v.Bytes == 0 { // it is on its way
		v.Bytes = int64(v.Chunks) * dumpflow.ChunkSize
	}
	for _, r := range d.Requesters {
		v.Requesters, v.Waiting = append(v.Requesters, r.ID), append(v.Waiting, r.ID)
	}
	if d.OpenedAt != 0 {
		at := time.Unix(0, d.OpenedAt).UTC()
		v.Opened = &at
	}
	end := d.Ended
	if end == 0 {
		end = h.Now().UnixNano()
	}
	v.DurationMS = (end - d.Started) / 1e6
	return v
}

func (h *Handler) dumps(*http.Request) (any, error) {
	all := []DumpView{}
	for _, d := range h.State.Dumps() {
		all = append(all, h.dumpView(d))
	}
	return all, nil
}

func (h *Handler) pathDump(r *http.Request) (dumpflow.Dump, error) {
	id, err := event.ParseDumpID(r.PathValue("id"))
	if err != nil {
		return dumpflow.Dump{}, refuse(http.StatusBadRequest, "%v", err)
	}
	d, known := h.State.Dump(id)
	if !known {
		return d, refuse(http.StatusNotFound, "there is no DUMP %s", id)
	}
	return d, nil
}

func (h *Handler) dump(r *http.Request) (any, error) {
	d, err := h.pathDump(r)
	if err != nil {
		return nil, err
	}
	return h.dumpView(d), nil
}

func (h *Handler) cancelDump(r *http.Request) (any, error) { return h.endDump(r, worker.Cancel) }

// dropDump removes a snapshot that is kept.
func (h *Handler) dropDump(r *http.Request) (any, error) { return h.endDump(r, worker.Drop) }

func (h *Handler) endDump(r *http.Request, verb worker.Verb) (any, error) {
	var o Order
	if err := parse(r, 4096, &o); err != nil {
		return nil, err
	}
	d, err := h.pathDump(r)
	if err != nil {
		return nil, err
	}
	by, via, err := identify(o.Caller, r)
	if err != nil {
		return nil, err
	}
	return h.order(r.Context(), d.Target, worker.Order{Verb: verb, Dump: d.ID, Reason: o.Reason, By: by, Via: via})
}
