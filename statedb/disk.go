package statedb

import "xmq/broker/disk"

// OnDisk is a Store in a database opened by package disk.
func OnDisk(db *disk.DB) Store { return onDisk{db} }

type onDisk struct{ *disk.DB }

func (s onDisk) Each(prefix string, f func(key, value []byte) error) error {
	from, to := []byte(prefix), []byte(nil)
	if prefix == "" {
		from, to = []byte{0}, []byte{0xFF}
	} else {
		to = append([]byte(prefix[:len(prefix)-1]), prefix[len(prefix)-1]+1) // prefixes end with '/'
	}
	c := s.Range(from, to)
	for c.Next() {
		if err := f(c.Key(), c.Value()); err != nil {
			_ = c.Close() // the first error is the one to tell
			return err
		}
	}
	return c.Close()
}
