package leveldb

import "xmq/broker/disk"

// database is what this package needs of a disk.DB.
type database interface {
	// Write makes the batch durable as a whole before it returns nil. After an error the outcome is unknown and every
	// later Write fails alike.
	Write(*disk.Batch) error
	// Each calls f for every key with the prefix, in order; "" is all keys. Key and value are borrowed during the call.
	Each(prefix string, f func(key, value []byte) error) error
	Close() error
}

// onDisk is a database that package disk has opened.
type onDisk struct{ *disk.DB }

func (d onDisk) Each(prefix string, f func(key, value []byte) error) error {
	from, to := []byte{0}, []byte{0xFF}
	if prefix != "" { // prefixes end with '/'
		from, to = []byte(prefix), append([]byte(prefix[:len(prefix)-1]), prefix[len(prefix)-1]+1)
	}
	c := d.Range(from, to)
	for c.Next() {
		if err := f(c.Key(), c.Value()); err != nil {
			_ = c.Close() // the first error is the one to tell
			return err
		}
	}
	return c.Close()
}
