package api

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"xmq/broker/disk"
	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/increments"
	"xmq/statedb"
	"xmq/worker"
)

// Positions is the answer of GET /v1/positions.
type Positions struct {
	Broker  Header        `json:"broker"`
	Log     event.LogID   `json:"log"`
	Group   string        `json:"group"`
	Head    uint64        `json:"head"`
	First   uint64        `json:"first"`
	Chain   event.Chain   `json:"chain"`
	Input   *Input        `json:"input"` // why no increments are taken; null while they are
	Clients []worker.View `json:"clients"`
	// Newcomers are nodes that nobody knows yet, and that live and wait for their database or a snapshot: in no count.
	Newcomers []worker.View `json:"newcomers,omitempty"`
}

// LogInfo is the answer of GET /v1/log.
type LogInfo struct {
	Broker      Header         `json:"broker"`
	Log         event.LogID    `json:"log"`
	Group       string         `json:"group"`
	First       uint64         `json:"first"`
	Head        uint64         `json:"head"`
	Chain       event.Chain    `json:"chain"`
	Segments    int            `json:"segments"`
	Bytes       int64          `json:"bytes"`
	Quarantined []string       `json:"quarantined"`
	SyncP99MS   float64        `json:"sync_p99_ms"`
	Pin         *uint64        `json:"pin"`
	Holder      string         `json:"holder,omitempty"`
	MaxBytes    int64          `json:"max_bytes"` // the limit of the log; 0 for none
	Rebuilt     bool           `json:"rebuilt"`
	Commits     uint64         `json:"commits"`
	Taken       uint64         `json:"taken"`
	Refused     uint64         `json:"refused_events"`
	Dropped     uint64         `json:"dropped_events"`
	Checkpoint  event.Position `json:"checkpoint"`
	// MaxIncrement is the largest body that the doors take, in bytes.
	MaxIncrement int    `json:"max_increment"`
	Input        *Input `json:"input"`   // why no increments are taken; null while they are
	Indexed      uint64 `json:"indexed"` // the idempotency keys of all increments up to there are in the index
	IndexBytes   int64  `json:"index_bytes"`
}

// NoHolder is the holder of a log that is kept because no client has a copy.
const NoHolder = "no client"

// Checked is the answer of POST /v1/log/check and of CheckOffline: what was verified, and everything that is wrong.
type Checked struct {
	First      uint64            `json:"first"`
	Last       uint64            `json:"last"`
	Records    uint64            `json:"records"`              // verified
	Damaged    map[string]string `json:"damaged"`              // by segment: set aside, or missing
	Help       map[string]string `json:"help,omitempty"`       // by segment, where a start is refused: what can be done
	Unreadable map[string]string `json:"unreadable,omitempty"` // by segment: could not be read this time
	// the log was acknowledged up to here at least; 0 when that is not known
	Checkpoint uint64 `json:"checkpoint"`
	Missing    string `json:"missing,omitempty"` // acknowledged increments are missing: how that shows
	Unknown    string `json:"unknown,omitempty"` // why nobody can say whether some are missing
}

// Line is one increment of GET /v1/increments.
type Line struct {
	Seq         uint64      `json:"seq"`
	Time        time.Time   `json:"time"`
	Chain       event.Chain `json:"chain"`
	Topic       string      `json:"topic,omitempty"`
	ContentType string      `json:"content_type,omitempty"`
	Producer    string      `json:"producer,omitempty"`
	Key         string      `json:"key,omitempty"`
	Number      *uint64     `json:"number,omitempty"` // instead of the key, when the producer counts
	Origin      string      `json:"origin,omitempty"`
	ApplyLimit  string      `json:"apply_limit,omitempty"`
	Body        []byte      `json:"body,omitempty"` // base64 in JSON
	Text        *string     `json:"text,omitempty"` // instead of the body, with text=1, when that is UTF-8
}

// Next is the last line of an answer of GET /v1/increments: where the next request goes on.
type Next struct {
	Next uint64 `json:"next"`
}

func (h *Handler) logInfo(*http.Request) (any, error) {
	st, err := h.Log.Stats()
	if err != nil {
		return nil, err
	}
	own := h.Broker.Figures()
	info := LogInfo{Broker: h.Broker.Header(), Log: st.Head.Log, Group: h.Group, First: st.First, Head: st.Head.Seq,
		Chain: st.Head.Chain, Segments: st.Segments, Bytes: st.Bytes, Quarantined: append([]string{}, st.Quarantined...),
		SyncP99MS: float64(st.SyncP99) / 1e6, Rebuilt: h.State.Meta().Rebuilt, MaxBytes: own.MaxBytes, Commits: own.Commits,
		Taken: own.Taken, Refused: own.Refused, Dropped: own.Dropped, Checkpoint: h.State.Checkpoint(),
		Indexed: st.Indexed, IndexBytes: st.IndexBytes, MaxIncrement: h.MaxIncrement, Input: h.Broker.Input()}
	if pin, who, held := h.Broker.Holder(); held {
		info.Pin, info.Holder = &pin, who
	}
	return info, nil
}

// trimNote says what an ordered trim does not look at.
const trimNote = "what every client and every DUMP has passed was freed, whatever retention.keep_records and " +
	"retention.keep_age say"

// trim frees what nobody needs now. With confirm an operator says that all clients are back after the state
// store was lost.
func (h *Handler) trim(r *http.Request) (any, error) {
	var req struct {
		Confirm bool `json:"confirm"`
		Caller
	}
	if err := parse(r, 4096, &req); err != nil {
		return nil, err
	}
	by, via, err := identify(req.Caller, r)
	if err != nil {
		return nil, err
	}
	h.Deciding.Lock() // its rounds write what they read before
	defer h.Deciding.Unlock()
	meta := h.State.Meta()
	if meta.Rebuilt && !req.Confirm {
		return nil, refuse(http.StatusConflict, "the state store was rebuilt: look at `xmq positions`, and when every "+
			"client is there run `xmq log trim --confirm`")
	}
	if meta.Rebuilt {
		var batch statedb.Batch
		meta.Rebuilt = false
		batch.PutMeta(meta)
		batch.Clear(RebuiltAlert, h.Now().UnixNano())
		batch.Audit(statedb.Audit{Time: h.Now().UnixNano(), Verb: "confirm", By: by, Via: via})
		if err := h.State.Write(&batch); err != nil {
			return nil, err
		}
	}
	freed, err := h.Broker.Trim()
	note := trimNote
	if freed == 0 {
		note = "nothing was freed: " + h.Broker.WhyKept()
	}
	return map[string]any{"freed_segments": freed, "first": h.Log.First(), "note": note}, err
}

// check reads all of the log. One check runs at a time: each of them keeps the disk busy.
func (h *Handler) check(r *http.Request) (any, error) {
	if !h.checking.TryLock() {
		return nil, door.Refuse(door.Busy, "a check of the log is running already: wait until it has ended, then try again")
	}
	defer h.checking.Unlock()
	checkpoint := h.State.Checkpoint()
	rep, err := h.Log.Check(r.Context(), 0, nil)
	if err == nil && len(rep.Unreadable) == 0 {
		h.Broker.Checked()
	}
	c := CheckedOf(rep)
	c.Checkpoint = checkpoint.Seq
	if lost := h.Log.VerifyCheckpoint(checkpoint); disk.IsDamage(lost) && !errors.Is(lost, increments.ErrQuarantined) {
		c.Missing = lost.Error()
	}
	return c, err
}

// damaged notes a damage, and what can be done where a start is refused with it.
func (c *Checked) damaged(what string, err error, help string) {
	c.Damaged[what] = err.Error()
	if help == "" {
		return
	}
	if c.Help == nil {
		c.Help = map[string]string{}
	}
	c.Help[what] = help
}

// DamagedState notes that the state store is damaged.
func (c *Checked) DamagedState(name string, err error) {
	c.damaged(name, err, "a start is refused with it (78): move it away; the next start makes it again "+
		"from the log and from what the nodes say (alert `rebuilt`), and when all clients are back `xmq log trim "+
		"--confirm` ends that")
}

// CheckedOf is a report of the log as the outside reads it.
func CheckedOf(rep increments.Report) Checked {
	c := Checked{First: rep.First, Last: rep.Last, Records: rep.Records, Damaged: map[string]string{}}
	for _, f := range rep.Damaged {
		c.damaged(f.Segment, f.Err, f.Help)
	}
	for _, f := range rep.Unreadable {
		if c.Unreadable == nil {
			c.Unreadable = map[string]string{}
		}
		c.Unreadable[f.Segment] = f.Err.Error()
	}
	if rep.Missing != nil {
		c.Missing = rep.Missing.Error()
	}
	return c
}

// acceptLog takes the log as it is, though nodes speak against it.
func (h *Handler) acceptLog(r *http.Request) (any, error) {
	var req struct {
		Confirm bool   `json:"confirm"`
		Reason  string `json:"reason"`
		Caller
	}
	if err := parse(r, 4096, &req); err != nil {
		return nil, err
	}
	by, via, err := identify(req.Caller, r)
	if err != nil {
		return nil, err
	}
	h.Deciding.Lock() // no older state of the doubts is stored after this one
	defer h.Deciding.Unlock()
	d := h.Broker.Doubts()
	switch {
	case len(d.Witnesses) == 0:
		return nil, refuse(http.StatusConflict, "no node speaks against this log: there is nothing to accept")
	case strings.TrimSpace(req.Reason) == "" || len(req.Reason) > 1000:
		return nil, refuse(http.StatusBadRequest,
			"to accept a log needs a reason, of at most 1000 bytes: it will stand in the audit list")
	case !req.Confirm:
		return nil, refuse(http.StatusConflict, "%s", h.Broker.Against(d))
	}
	text, now := h.Broker.Against(d), h.Now().UnixNano()
	var batch statedb.Batch
	batch.PutDoubts(h.Broker.Accept())
	batch.Clear(HeldAlert, now)
	batch.Audit(statedb.Audit{Time: now, Verb: "accept log", Seq: h.Log.Head().Seq, Reason: req.Reason + " (" +
		text + ")",
		By: by, Via: via})
	if err := h.State.Write(&batch); err != nil {
		return nil, err
	}
	return map[string]string{"log": h.Log.ID().String(), "done": "accept"}, nil
}
