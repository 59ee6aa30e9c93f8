package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/increments"
	"xmq/statedb"
	"xmq/worker"
)

func (h *Handler) positions(r *http.Request) (any, error) {
	views, err := h.Broker.Views(r.Context())
	if err != nil {
		return nil, err
	}
	views = slices.Clone(views)
	for i := range views {
		h.remember(&views[i])
	}
	head := h.Log.Head()
	return Positions{Broker: h.Broker.Header(), Log: head.Log, Group: h.Group, Head: head.Seq,
		First: h.Log.First(), Chain: head.Chain, Input: h.Broker.Input(), Clients: views,
		Newcomers: h.Broker.Newcomers()}, nil
}

func (h *Handler) client(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	v, known, err := h.Broker.View(r.Context(), id)
	if err == nil && !known {
		news := h.Broker.Newcomers()
		if i := slices.IndexFunc(news, func(v worker.View) bool { return v.ID == id }); i >= 0 {
			return news[i], nil
		}
		return nil, refuse(http.StatusNotFound, "there is no client %s", id)
	}
	h.remember(&v)
	return v, err
}

// remember puts after why a client has failed what was decided about that increment before, for any client: what is
// known now, and not when it failed.
func (h *Handler) remember(v *worker.View) {
	if v.State != statedb.Failed || v.LastError == nil {
		return
	}
	told := *v.LastError
	told.Text += Earlier(h.State, told.Seq)
	v.LastError = &told
}

func (h *Handler) orderClient(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	var o Order
	if err := parse(r, int64(2*h.MaxIncrement)+1<<16, &o); err != nil {
		return nil, err
	}
	if len(o.Body) > h.MaxIncrement {
		return nil, refuse(http.StatusRequestEntityTooLarge, "a body of %d bytes is above the limit of %d (max_increment)",
			len(o.Body), h.MaxIncrement)
	}
	if unfit := h.Accepts.Check(o.Body); unfit != nil && worker.Verb(r.PathValue("verb")) == worker.Replace {
		return nil, refuse(http.StatusUnprocessableEntity, "%s", unfit.Text)
	}
	if len(o.Reason) > 1000 {
		return nil, refuse(http.StatusRequestEntityTooLarge, "a reason has at most 1000 bytes")
	}
	by, via, err := identify(o.Caller, r)
	if err != nil {
		return nil, err
	}
	verb := worker.Verb(r.PathValue("verb"))
	switch verb {
	case worker.Retry, worker.Skip, worker.Replace, worker.SeekTo, worker.Forget, worker.Redump, worker.Add, worker.Apply:
	default:
		return nil, refuse(http.StatusNotFound,
			"there is no order %.40q: add, retry, skip, replace, apply, seek, forget or redump", verb)
	}
	topics, err := event.SortTopics(o.Topics)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	limit, err := orderLimit(&o)
	if err != nil {
		return nil, err
	}
	if limit != 0 && verb != worker.Retry && verb != worker.Replace {
		return nil, refuse(http.StatusBadRequest, "%s takes no limit: retry and replace do", verb)
	}
	if moves := verb == worker.SeekTo || verb == worker.Forget || verb == worker.Redump || verb == worker.Apply; moves &&
		strings.TrimSpace(o.Reason) == "" {
		return nil, refuse(http.StatusBadRequest, "%s needs a reason: it will stand in the audit list", verb)
	}
	var record []byte
	mayRun := false
	if verb == worker.Apply {
		if record, mayRun, err = h.outside(r.Context(), id, o.Seq); err != nil {
			return nil, err
		}
	}
	return h.order(r.Context(), id, worker.Order{Verb: verb, Seq: o.Seq, Record: record, MayRun: mayRun, Ask: !o.Confirm,
		Last: worker.Sole(id, h.State.Clients()), Topics: topics, Body: o.Body, Limit: limit,
		Reason: o.Reason, By: by, Via: via})
}

// limit is the time limit of an order; 0 when it names none.
func orderLimit(o *Order) (time.Duration, error) {
	if o.Limit == "" {
		return 0, nil
	}
	limit, err := event.ParseLimit(o.Limit)
	if err != nil {
		return 0, refuse(http.StatusBadRequest, "%v", err)
	}
	return limit, nil
}

// retryAll orders a retry for every client that has failed or is retrying, each as an order of its own for the
// increment concerned, and for every node that waits for its database. An error of the broker ends it: the orders given
// before that stand.
func (h *Handler) retryAll(r *http.Request) (any, error) {
	var o Order
	if err := parse(r, 4096, &o); err != nil {
		return nil, err
	}
	by, via, err := identify(o.Caller, r)
	if err != nil {
		return nil, err
	}
	limit, err := orderLimit(&o)
	switch {
	case err != nil:
		return nil, err
	case o.Seq != 0 || len(o.Body) > 0 || len(o.Topics) > 0:
		return nil, refuse(http.StatusBadRequest, "a retry of all clients takes a reason and a limit, nothing else")
	case len(o.Reason) > 1000:
		return nil, refuse(http.StatusRequestEntityTooLarge, "a reason has at most 1000 bytes")
	}
	views, err := h.Broker.Views(r.Context())
	if err != nil {
		return nil, err
	}
	done := []Retried{}
	for _, v := range slices.Concat(views, h.Broker.Newcomers()) {
		order := worker.Order{Verb: worker.Retry, Limit: limit, Reason: o.Reason, By: by, Via: via}
		switch {
		case v.Stuck():
			order.Seq = v.LastError.Seq
		case v.Condition.Is != worker.IsRetrying || limit != 0: // a limit is for an increment
			continue
		}
		no, err := h.Broker.Order(r.Context(), v.ID, order)
		if err != nil {
			return nil, err
		}
		done = append(done, Retried{Client: v.ID, Seq: no.Seq, Refused: no.Refused, To: no.To, At: At(no.At),
			Connected: v.Connected})
	}
	return map[string]any{"retried": done}, nil
}

func (h *Handler) order(ctx context.Context, id string, o worker.Order) (any, error) {
	a, err := h.Broker.Order(ctx, id, o)
	switch {
	case err != nil:
		return nil, err
	case a.Ask:
		return nil, door.Refuse(door.Confirm, "%s", a.Refused)
	case a.Refused != "":
		return nil, refuse(http.StatusConflict, "%s", a.Refused)
	}
	return Ordered{Client: id, Done: string(o.Verb), Seq: a.Seq, Told: a.Told, From: a.From, To: a.To,
		At: At(a.At)}, nil
}

// resetProducer lets a producer's numbers begin anew.
func (h *Handler) resetProducer(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	var o Order
	if err := parse(r, 4096, &o); err != nil {
		return nil, err
	}
	by, via, err := identify(o.Caller, r)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(o.Reason) == "" || len(o.Reason) > 1000 {
		return nil, refuse(http.StatusBadRequest, "a reset needs a reason, of at most 1000 bytes")
	}
	highest, counted, err := h.Log.Reset(id)
	if errors.Is(err, increments.ErrNoProducer) {
		return nil, refuse(http.StatusNotFound, "%v: there is nothing to reset", err)
	}
	if err != nil {
		return nil, err
	}
	var batch statedb.Batch
	batch.Audit(statedb.Audit{Time: h.Now().UnixNano(), Verb: "reset producer", Client: id, Seq: highest,
		Reason: o.Reason, By: by, Via: via})
	if err := h.State.Write(&batch); err != nil {
		return nil, err
	}
	done := ProducerReset{Producer: id, Done: "reset"}
	if counted {
		done.Highest = &highest
	}
	return done, nil
}
