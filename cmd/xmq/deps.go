package main

import (
	_ "github.com/goccy/go-yaml"
	_ "github.com/cockroachdb/datadriven"
	_ "github.com/klauspost/compress/zstd"
	_ "github.com/nats-io/nats-server/v2/server"
	_ "github.com/nats-io/nats.go"
	_ "github.com/sourcegraph/conc"
	_ "github.com/stretchr/testify/require"
	_ "github.com/syndtr/goleveldb/leveldb"
	_ "github.com/urfave/cli/v2"
	_ "go.uber.org/goleak"
	_ "modernc.org/sqlite"
	_ "pgregory.net/rapid"
)

func main() {}
