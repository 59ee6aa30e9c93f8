package event

import (
	"encoding/binary"
	"fmt"
)

// BatchReplyVersion is the format number in the first byte of every reply to a batch.
const BatchReplyVersion = 1

// The kinds of runs in a reply. Never reuse a number.
const (
	runStored    = 1 // consecutive sequences, stored now
	runDuplicate = 2 // consecutive sequences that were there before
	runRefused   = 3 // drafts refused for one reason
	runWhole     = 4 // the whole batch is refused; stands alone
)

// batchReplyFixed is the length of a reply before its runs.
const batchReplyFixed = 9

// Run is what became of Count neighbouring drafts of a batch. Code is empty when they are in the log: the first as
// First, the next as First+1, and so on. Otherwise they were refused, Code says in a word why (see package door)
// and Text in a sentence.
type Run struct {
	Count      int
	First      uint64
	Duplicate  bool // known by their keys: nothing was stored
	Code, Text string
}

// BatchReply is what became of a batch: the runs in the order of its drafts, or (Code) a refusal of the whole batch.
type BatchReply struct {
	Log        LogID
	Code, Text string
	Runs       []Run
}

// Stored adds one draft that is in the log.
func (a *BatchReply) Stored(seq uint64, duplicate bool) {
	if n := len(a.Runs); n > 0 {
		if r := &a.Runs[n-1]; r.Code == "" && r.Duplicate == duplicate && seq == r.First+uint64(r.Count) {
			r.Count++
			return
		}
	}
	a.Runs = append(a.Runs, Run{Count: 1, First: seq, Duplicate: duplicate})
}

// Refused adds one draft that was refused.
func (a *BatchReply) Refused(code, text string) {
	if n := len(a.Runs); n > 0 {
		if r := &a.Runs[n-1]; r.Code == code && r.Text == text {
			r.Count++
			return
		}
	}
	a.Runs = append(a.Runs, Run{Count: 1, Code: code, Text: text})
}

// Append appends the encoded reply to dst. Codes and texts are cut at 255 bytes.
func (a *BatchReply) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, BatchReplyVersion)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(a.Log))
	if a.Code != "" {
		dst = appendWords(append(dst, runWhole), a.Code, a.Text)
		return binary.LittleEndian.AppendUint32(dst, CRC32C(dst[start:]))
	}
	for _, r := range a.Runs {
		kind := byte(runStored)
		switch {
		case r.Code != "":
			kind = runRefused
		case r.Duplicate:
			kind = runDuplicate
		}
		dst = binary.LittleEndian.AppendUint32(append(dst, kind), uint32(r.Count))
		if kind == runRefused {
			dst = appendWords(dst, r.Code, r.Text)
		} else {
			dst = binary.LittleEndian.AppendUint64(dst, r.First)
		}
	}
	return binary.LittleEndian.AppendUint32(dst, CRC32C(dst[start:]))
}

func appendWords(dst []byte, words ...string) []byte {
	for _, w := range words {
		w = w[:min(len(w), 255)]
		dst = append(append(dst, byte(len(w))), w...)
	}
	return dst
}

// DecodeBatchReply reads a whole reply to a batch of count drafts. An error wraps ErrDamaged, also when the runs are
// for more or fewer drafts.
func DecodeBatchReply(b []byte, count int) (BatchReply, error) {
	var a BatchReply
	if len(b) < batchReplyFixed+4 {
		return a, fmt.Errorf("batch reply of %d bytes is shorter than its fixed part: %w", len(b), ErrDamaged)
	}
	if b[0] != BatchReplyVersion {
		return a, fmt.Errorf("batch reply format %d is not known to this version (%d): %w", b[0], BatchReplyVersion,
			ErrDamaged)
	}
	end := len(b) - 4
	if got, want := CRC32C(b[:end]), binary.LittleEndian.Uint32(b[end:]); got != want {
		return a, fmt.Errorf("batch reply: CRC is %08x, sent %08x: %w", got, want, ErrDamaged)
	}
	a.Log = LogID(binary.LittleEndian.Uint64(b[1:]))
	rest, ok := b[batchReplyFixed:end], true
	if len(rest) > 0 && rest[0] == runWhole {
		rest = rest[1:]
		if a.Code, rest, ok = word(rest); ok {
			a.Text, rest, ok = word(rest)
		}
		if !ok || len(rest) > 0 || a.Code == "" {
			return a, fmt.Errorf("batch reply: its refusal is not readable: %w", ErrDamaged)
		}
		return a, nil
	}
	for told := 0; told < count || len(rest) > 0; {
		var r Run
		if r, rest, ok = nextRun(rest); !ok || r.Count > count-told {
			return a, fmt.Errorf("batch reply: run %d, after %d of %d drafts, is not readable: %w", len(a.Runs), told, count,
				ErrDamaged)
		}
		told += r.Count
		a.Runs = append(a.Runs, r)
	}
	return a, nil
}

func nextRun(b []byte) (r Run, rest []byte, ok bool) {
	if len(b) < 5 {
		return r, nil, false
	}
	kind, count := b[0], binary.LittleEndian.Uint32(b[1:])
	if count == 0 || count > MaxDrafts {
		return r, nil, false
	}
	r.Count, b = int(count), b[5:]
	switch kind {
	case runStored, runDuplicate:
		if len(b) < 8 {
			return r, nil, false
		}
		r.First, r.Duplicate = binary.LittleEndian.Uint64(b), kind == runDuplicate
		return r, b[8:], r.First > 0 && r.First+uint64(count-1) >= r.First
	case runRefused:
		if r.Code, b, ok = word(b); ok {
			r.Text, b, ok = word(b)
		}
		return r, b, ok && r.Code != ""
	}
	return r, nil, false
}

func word(b []byte) (string, []byte, bool) {
	if len(b) < 1 || len(b)-1 < int(b[0]) {
		return "", nil, false
	}
	end := 1 + int(b[0])
	return string(b[1:end]), b[end:], true
}
