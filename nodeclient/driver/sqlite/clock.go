package sqlite

import (
	"os"

	"modernc.org/libc"
)

// init makes UTC the time zone of SQLite, and of nothing else in this process: the modifiers 'localtime' and 'utc'
// would ask the machine for its own, and nodes in different places would store different times. The library changes
// the environment of the process along with SQLite's, which is put back: a change of that alone does not reach
// SQLite.
func init() {
	zone, set := os.LookupEnv("TZ")
	tls := libc.NewTLS()
	defer tls.Close()
	name, err := libc.CString("TZ")
	if err != nil {
		panic(err) // no memory for three bytes
	}
	defer libc.Xfree(tls, name)
	value, err := libc.CString("UTC0")
	if err != nil {
		panic(err)
	}
	defer libc.Xfree(tls, value)
	libc.Xsetenv(tls, name, value, 1)
	if set {
		err = os.Setenv("TZ", zone)
	} else {
		err = os.Unsetenv("TZ")
	}
	if err != nil {
		panic(err) // it was set like this before
	}
}
