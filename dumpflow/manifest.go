package dumpflow

import (
	"encoding/json"
	"fmt"

	"xmq/broker/event"
)

// ManifestVersion is the format number of a Manifest.
const ManifestVersion = 1

// Manifest describes a complete snapshot. It is published (by rename) only after every chunk is durable:
// no manifest, no snapshot. Rules: XE-12, RS-12.
type Manifest struct {
	V      int            `json:"v"`
	Dump   event.DumpID   `json:"dump"`
	Target string         `json:"target"`   // the node whose data it is
	Pos    event.Position `json:"position"` // exactly what the data holds
	Format string         `json:"format"`   // the target driver's name for the bytes, with a version
	Topics []string       `json:"topics,omitempty"`
	Range  *event.Range   `json:"range,omitempty"` // a part of the copy, which nobody can restore from; nil for all of it
	Size   int64          `json:"size"`            // bytes, uncompressed
	Chunks uint32         `json:"chunks"`          // number of chunks, each ChunkSize long but the last
	SHA256 string         `json:"sha256"`          // of the uncompressed bytes, hexadecimal
	Time   int64          `json:"time"`            // ns since 1970, when it was sealed; for people
}

// Encode returns m as JSON of a few hundred bytes.
func (m Manifest) Encode() []byte {
	m.V = ManifestVersion
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // plain data always marshals
	}
	return b
}

// DecodeManifest reads what Encode wrote and checks that there is a position and that the numbers fit each other.
// The error wraps event.ErrDamaged.
func DecodeManifest(b []byte) (Manifest, error) {
	var m Manifest
	if len(b) > 64<<10 {
		return m, fmt.Errorf("manifest of %d bytes is longer than 65536: %w", len(b), event.ErrDamaged)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("manifest: %v: %w", err, event.ErrDamaged)
	}
	if m.V != ManifestVersion {
		return m, fmt.Errorf("manifest: format %d is not known to this version (%d): %w", m.V, ManifestVersion,
			event.ErrDamaged)
	}
	return m, m.check()
}

// check refuses a manifest that nobody could load by: without a dump or a position (SS-12), or with numbers that
// do not fit each other.
func (m Manifest) check() error {
	if m.Dump == 0 || m.Pos.Log == 0 {
		return fmt.Errorf("manifest: DUMP %s at %s has no position: %w", m.Dump, m.Pos, event.ErrDamaged)
	}
	if m.Size < 0 || int64(m.Chunks) != Chunks(m.Size) || len(m.SHA256) != 64 {
		return fmt.Errorf("manifest: %d bytes in %d chunks with digest %.80q do not fit each other: %w", m.Size, m.Chunks,
			m.SHA256, event.ErrDamaged)
	}
	return nil
}

// Opened is what a target says of the consistent read it has opened: the body of DUMP_REP Opened.
type Opened struct {
	Format string `json:"format"`
	Online bool   `json:"online"`         // increments may flow while the snapshot is copied
	Size   int64  `json:"size,omitempty"` // about how many bytes it will have; 0 when not known
	Time   int64  `json:"time,omitempty"` // when it was opened, in ns since 1970; 0 from a broker of an earlier build
}

// Encode returns o as the body of an event.
func (o Opened) Encode() []byte {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // plain data always marshals
	}
	return b
}

// DecodeOpened reads what Encode wrote.
func DecodeOpened(b []byte) (Opened, error) {
	var o Opened
	if err := json.Unmarshal(b, &o); err != nil || o.Format == "" || len(o.Format) > 64 || o.Size < 0 {
		return o, fmt.Errorf("opened snapshot: %q names no format: %w", b[:min(len(b), 80)], event.ErrDamaged)
	}
	return o, nil
}

// Matches compares what was read with the manifest. The error wraps event.ErrDamaged.
func (m Manifest) Matches(size int64, sha string) error {
	if size != m.Size || sha != m.SHA256 {
		return fmt.Errorf("snapshot %s has %d bytes with digest %.16s..., its manifest says %d with %.16s...: %w", m.Dump,
			size, sha, m.Size, m.SHA256, event.ErrDamaged)
	}
	return nil
}
