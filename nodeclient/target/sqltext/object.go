package sqltext

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Object is an increment with arguments: {"sql": "one statement", "args": [...]}.
type Object struct {
	SQL  string            `json:"sql"`
	Args []json.RawMessage `json:"args"`
}

// IsObject reports whether body is to be read by ParseObject: no SQL begins with {.
func IsObject(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte{'{'})
}

// ParseObject reads an increment with arguments. Anything unknown in it is an error, as is anything behind it.
func ParseObject(body []byte) (o Object, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return o, fmt.Errorf(`it begins with { but is not {"sql": ..., "args": [...]}: %w`, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return o, errors.New("something stands behind its JSON object")
	}
	return o, nil
}
