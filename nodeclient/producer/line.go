package producer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"xmq/broker/bus"
	"xmq/broker/event"
)

// The pauses after trouble: doubled each time, and the first again after an answer.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// run sends batches until Close. It is the only one that sends.
func (p *Producer) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	down := false
	for {
		timer.Reset(p.pump())
		select {
		case <-p.news:
		case <-timer.C:
		case <-p.conn.Changes():
			if up := p.conn.Up(); !up {
				p.stop(p.down(), time.Now().Add(lastPause)) // what was under way is gone
				down = true
			} else {
				p.again(down)
				down = false
			}
		case <-p.quit:
			return
		}
	}
}

// pump sends what may be sent now, and returns how long nothing has to be done without news.
func (p *Producer) pump() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.resume.IsZero() {
		if d := p.resume.Sub(now); d > 0 {
			return d
		}
		p.resume, p.next = time.Time{}, max(p.base, min(p.next, p.from)) // what was still to be repeated is
	}
	if len(p.line) > 0 && p.line[0].tries > 0 && now.Sub(p.line[0].sent) >= p.options.Timeout {
		p.troubled(fmt.Errorf("no answer within %s", p.options.Timeout))
		p.next = p.base
	}
	if p.forming != nil && len(p.line) == 0 {
		p.cut()
	}
	for p.resume.IsZero() && p.next < p.base+uint64(len(p.line)) {
		p.send(p.line[p.next-p.base], now)
	}
	if !p.resume.IsZero() {
		return p.resume.Sub(now)
	}
	if len(p.line) == 0 {
		return p.sound(now)
	}
	return max(time.Millisecond, p.line[0].sent.Add(p.options.Timeout).Sub(now))
}

// send sends one batch of the line, or not when its answer came meanwhile. Caller holds mu, which is free while it
// sends.
func (p *Producer) send(b *batch, now time.Time) {
	p.next = b.number + 1
	if b.answer != nil {
		return
	}
	b.tries, b.sent, b.sending = b.tries+1, now, true
	h := event.Batch{Stream: p.life, Number: b.number, Base: p.base}
	if p.options.Once {
		h.First = p.start + b.first
	}
	reply := p.inbox() + "." + strconv.FormatUint(b.number, 10) + "-" + strconv.Itoa(b.tries)
	p.mu.Unlock()
	n := len(b.data)
	sealed := event.SealBatch(b.data, h, b.count)
	err := p.conn.Ask(event.Subject(p.options.Group, event.Many, p.id), reply, sealed)
	p.mu.Lock()
	b.data, b.sending = sealed[:n], false
	switch {
	case b.answer != nil: // it came while the connection was still at it
	case errors.Is(err, bus.ErrTooLarge):
		b.answer = &event.BatchReply{Code: "too_large",
			Text: fmt.Sprintf("%d bytes are more than the connection carries", len(sealed))}
		p.settle()
	case errors.Is(err, bus.ErrDown):
		p.trip(b.number, p.down(), now)
	case errors.Is(err, bus.ErrNobody):
		p.trip(b.number, p.unserved(), now)
	case err != nil:
		p.trip(b.number, err, now)
	}
}

// sounding is the last token of the reply address of an empty batch, which no broker takes: it is only asked so whether
// anybody serves the group.
const sounding = "probe"

// sound asks, when it is time, whether anybody serves the group, and returns when that is to be looked at again.
// Nothing waits to be sent: else the answers to that tell. Caller holds mu, which is free while it asks.
func (p *Producer) sound(now time.Time) time.Duration {
	if p.probe.IsZero() || p.probe.After(now) {
		return p.nextProbe(now)
	}
	p.probe = time.Time{}
	p.mu.Unlock()
	err := p.conn.Ask(event.Subject(p.options.Group, event.Many, p.id), p.inbox()+"."+sounding, nil)
	p.mu.Lock()
	if errors.Is(err, bus.ErrNobody) {
		p.sounded(false)
	}
	return p.nextProbe(now)
}

// nextProbe is how long it is until sound has something to do. Caller holds mu.
func (p *Producer) nextProbe(now time.Time) time.Duration {
	if p.probe.IsZero() {
		return time.Hour
	}
	return max(time.Millisecond, p.probe.Sub(now))
}

// sounded takes the answer to that. Caller holds mu.
func (p *Producer) sounded(served bool) {
	var nobody *bus.Unserved
	switch {
	case len(p.line) > 0 || p.closed:
	case !served:
		p.troubled(p.unserved())
		p.probe = time.Now().Add(lastPause)
	case errors.As(p.trouble, &nobody):
		p.troubled(nil)
	}
}

// troubled notes what is wrong, nil for nothing, and tells it when that is another thing. Caller holds mu.
func (p *Producer) troubled(err error) {
	same := (err == nil) == (p.trouble == nil) && (err == nil || err.Error() == p.trouble.Error())
	p.trouble = err
	if !same && p.options.Trouble != nil {
		p.options.Trouble(err)
	}
}

func (p *Producer) unserved() error {
	return &bus.Unserved{Group: p.options.Group, Server: p.conn.Server()}
}

// down is that the connection does not stand, and why as far as that is known.
func (p *Producer) down() error {
	if why := p.conn.Trouble(); why != nil {
		return fmt.Errorf("%w: %w", bus.ErrDown, why)
	}
	return bus.ErrDown
}

// answered takes the answer to one batch.
func (p *Producer) answered(m bus.Msg) {
	token := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	number, try, ok := parseToken(token)
	p.mu.Lock()
	defer p.mu.Unlock()
	if token == sounding {
		p.sounded(!bus.Unanswered(m))
		p.wake()
		return
	}
	if !ok || p.closed || number < p.base || number >= p.base+uint64(len(p.line)) {
		return
	}
	b := p.line[number-p.base]
	if b.answer != nil {
		return
	}
	a, err := event.DecodeBatchReply(m.Data, b.count)
	switch {
	case bus.Unanswered(m):
		err = p.unserved()
	case err == nil && mayRepeat[a.Code]:
		err = errors.New(a.Text)
		if a.Code != unknown {
			b.vain++
		}
	}
	if err != nil {
		if try == b.tries { // an older one says nothing about what is under way
			if a.Code == gap && p.options.Once {
				number = p.base // whichever is missing: those that are not are known again
			}
			p.trip(number, err, time.Now())
			p.wake()
		}
		return
	}
	b.answer = &a
	p.pause = 0
	p.troubled(nil)
	p.settle()
	p.wake()
}

// keyReused refuses a number that another draft has.
const keyReused = "key_reused"

// unknown says that the broker does not know what became of a batch.
const unknown = "unknown"

// gap refuses a batch that came before an earlier one.
const gap = "gap"

// mayRepeat are the refusals of a whole batch after which it is sent again.
var mayRepeat = map[string]bool{gap: true, "busy": true, "closing": true, "disk_full": true, "descriptors": true,
	"held": true, "opening": true,
	unknown: true}

func parseToken(s string) (number uint64, try int, ok bool) {
	a, b, _ := strings.Cut(s, "-")
	number, err := strconv.ParseUint(a, 10, 64)
	try, err2 := strconv.Atoi(b)
	return number, try, err == nil && err2 == nil
}

// trip stops the line for a pause; then it goes back to the batch number, or to an earlier one that tripped meanwhile.
// Those in front of it are under way: to repeat them as well might store them twice. Caller holds mu.
func (p *Producer) trip(number uint64, err error, now time.Time) {
	if !p.resume.IsZero() {
		p.from = min(p.from, number)
		return // the refusals of those after the first say nothing new
	}
	p.pause = min(max(2*p.pause, firstPause), lastPause)
	p.resume, p.from = now.Add(p.pause), number
	p.troubled(err)
}

// stop stops the line until resume, unless again comes before; then all that has no answer is repeated.
func (p *Producer) stop(err error, resume time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resume, p.from = resume, p.base
	p.troubled(err)
}

// again ends the pause: the connection is up, and was it not before, all that has no answer is repeated.
func (p *Producer) again(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probe = time.Now()
	if down {
		p.resume, p.next, p.pause = time.Time{}, p.base, 0
	}
}

// cut ends the forming of a batch. Caller holds mu.
func (p *Producer) cut() {
	if p.forming == nil {
		return
	}
	p.forming.number = p.base + uint64(len(p.line))
	p.line = append(p.line, p.forming)
	p.forming = nil
}

// settle takes the answered batches off the head of the line. Caller holds mu.
func (p *Producer) settle() {
	n := 0
	for ; n < len(p.line) && p.line[n].answer != nil; n++ {
		b := p.line[n]
		runs := b.answer.Runs
		if b.answer.Code != "" {
			runs = []event.Run{{Count: b.count, Code: b.answer.Code, Text: b.answer.Text}}
		}
		for _, r := range runs {
			p.tell(b, r)
		}
		p.passed(b)
		p.line[n] = nil
	}
	p.line = p.line[n:]
	p.base += uint64(n)
	p.next = max(p.next, p.base)
	if n > 0 {
		p.shift()
	}
}

// tell says what became of the next run of b's drafts, those after settled. Caller holds mu.
func (p *Producer) tell(b *batch, r event.Run) {
	foreign := p.options.Once && (r.Duplicate && b.tries-b.vain == 1 || r.Code == keyReused)
	if r.Code == "" && !foreign && p.options.Done == nil && len(b.waiters) == 0 {
		p.settled += uint64(r.Count)
		return
	}
	for i := range r.Count {
		v := verdict{seq: r.First + uint64(i)}
		switch {
		case foreign:
			v = verdict{err: fmt.Errorf("draft %d: %w", p.settled+1, ErrNumber)}
		case r.Code != "":
			v = verdict{err: &Refused{p.settled + 1, r.Code, r.Text}}
		}
		p.one(b, v)
	}
}

// one says what became of the next draft of b. Caller holds mu.
func (p *Producer) one(b *batch, v verdict) {
	p.settled++
	if v.err != nil && p.failed == nil {
		p.failed = v.err
	}
	if p.options.Done != nil {
		p.options.Done(p.settled, v.seq, v.err)
	}
	if len(b.waiters) > 0 && b.first+uint64(b.waiters[0].index) == p.settled {
		b.waiters[0].answer <- v // has room
		b.waiters = b.waiters[1:]
	}
}

// passed frees what a settled batch held. Caller holds mu.
func (p *Producer) passed(b *batch) {
	p.records, p.bytes = p.records-b.count, p.bytes-b.bytes
	if !b.sending && cap(b.data) <= 2*batchBytes {
		p.spare = append(p.spare, b.data[:0])
	}
}

// abandon says of everything that has no answer that its outcome is unknown. Caller holds mu.
func (p *Producer) abandon() {
	p.cut()
	for _, b := range p.line {
		for range b.count {
			p.one(b, verdict{err: ErrUnknown})
		}
		p.passed(b)
	}
	p.line = nil
	p.shift()
}

// memory is what an answered batch has left, or new.
func (p *Producer) memory() []byte {
	n := len(p.spare)
	if n == 0 {
		return make([]byte, 0, batchBytes+1024)
	}
	b := p.spare[n-1]
	p.spare = p.spare[:n-1]
	return b
}
