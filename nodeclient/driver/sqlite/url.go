package sqlite

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// ParsePath takes the knobs from what stands after "sqlite:" in a target URL: PATH?max_length=BYTES&max_pages=N. It
// returns the path without them.
func ParsePath(text string) (path string, o Options, err error) {
	path, query, found := strings.Cut(text, "?")
	if !found {
		return path, o, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", o, errors.New("sqlite: what stands after ? in the target URL cannot be read: write " +
			"max_length=BYTES&max_pages=N")
	}
	for key, v := range values {
		bits := 32
		switch key {
		case "max_length":
			bits = 30 // SQLite's own limit is 1,000,000,000 bytes
		case "max_pages":
		default:
			return "", o, fmt.Errorf("sqlite: the target URL has the setting %q, and only max_length and max_pages are known",
				key)
		}
		n, err := strconv.ParseUint(v[0], 10, bits)
		if err != nil || n == 0 {
			return "", o, fmt.Errorf("sqlite: %s=%s in the target URL is not a number from 1 to %d", key, v[0],
				uint64(1)<<bits-1)
		}
		if key == "max_length" {
			o.MaxLength = int(n)
		} else {
			o.MaxPages = uint32(n)
		}
	}
	return path, o, nil
}
