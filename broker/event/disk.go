package event

import (
	"encoding/json"
	"fmt"
)

// DiskVersion is the format number of a Disk.
const DiskVersion = 1

// Disk is how full the file system is on which a node's database lies, where the node can see it. It travels now and
// then as the body of a heartbeat (INCR_REQ/SUCC), as JSON. Brokers of earlier builds pass over it, nodes of earlier
// builds never say it.
type Disk struct {
	V     int    `json:"v"`
	Free  uint64 `json:"free"`  // bytes
	Total uint64 `json:"total"` // bytes; not 0
}

// Encode returns d as the body of an event.
func (d Disk) Encode() []byte {
	d.V = DiskVersion
	b, err := json.Marshal(d)
	if err != nil {
		panic(err) // plain data always marshals
	}
	return b
}

// DecodeDisk reads what Encode wrote. The error wraps ErrDamaged.
func DecodeDisk(b []byte) (d Disk, err error) {
	if len(b) > 1<<10 {
		return d, fmt.Errorf("disk of %d bytes is longer than 1024: %w", len(b), ErrDamaged)
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return d, fmt.Errorf("disk: %v: %w", err, ErrDamaged)
	}
	if d.V != DiskVersion || d.Total == 0 || d.Free > d.Total {
		return d, fmt.Errorf("disk: format %d with %d of %d bytes free is not known to this version (%d): %w", d.V, d.Free,
			d.Total, DiskVersion, ErrDamaged)
	}
	return d, nil
}
