package kv

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
)

// factory: a counter numbers the entries, so that an increment applied twice shows. The databases lie outside the
// folders whose files the suite compares, because goleveldb renames its own with each opening; see
// TestARestoreLeavesNoFolder instead.
func factory() drivertest.Factory {
	open, folders := make(map[string]*Database), make(map[string]string)
	return drivertest.Factory{
		Open: func(t *testing.T, dir string) nodeclient.Database {
			if folders[dir] == "" {
				folders[dir] = t.TempDir()
			}
			target, err := Open(filepath.Join(folders[dir], "db"))
			require.NoError(t, err)
			open[dir] = target
			return target
		},
		Body: func(k uint64) []byte {
			return fmt.Appendf(nil, "INCR times:%08d\nINCR all\nSET pad:%d %s", k, k%7, strings.Repeat("x", 1000))
		},
		Invalid: []byte("INCR all\nSET half x\nINCR half"),
		Applied: func(t *testing.T, dir string) (numbers []uint64) {
			require.NoError(t, open[dir].Scan([]byte("times:"), []byte("times:z"), 0, func(key, value []byte) error {
				k, err := strconv.ParseUint(strings.TrimPrefix(string(key), "times:"), 10, 64)
				n, err2 := strconv.Atoi(string(value))
				for range n {
					numbers = append(numbers, k)
				}
				return errors.Join(err, err2)
			}))
			_, err := open[dir].Get([]byte("half"))
			require.ErrorIs(t, err, ErrNotFound)
			if all, err := open[dir].Get([]byte("all")); len(numbers) > 0 {
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint(len(numbers)), string(all))
			}
			return numbers
		},
	}
}

func TestTheDriverPassesTheConformanceSuite(t *testing.T) { drivertest.Run(t, factory()) }
