package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"xmq/broker/version"
)

// ready is what stands in the file of --ready-file: a program that starts this one, with port 0, learns from it where
// it listens.
type ready struct {
	Pid     int    `json:"pid"`
	Version string `json:"version"`
	ID      string `json:"id,omitempty"`   // of a node
	HTTP    string `json:"http,omitempty"` // of a broker
	NATS    string `json:"nats,omitempty"` // of a broker: its own server's, or the external one without a password
}

func readyFlag() cli.Flag {
	return &cli.StringFlag{Name: "ready-file", Usage: "write `FILE` when it is ready: JSON with addresses, pid and " +
		"version; removed when it ends"}
}

// atReady writes the file, if one is named. What it returns removes it again, unless it is another process's by then.
func atReady(c *cli.Context, r ready) (remove func(), err error) {
	path := c.String("ready-file")
	if path == "" {
		return func() {}, nil
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	r.Pid, r.Version = os.Getpid(), version.Version
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path) // whoever reads it reads all of it
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return nil, err
	}
	return func() {
		var now ready
		if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &now) == nil && now.Pid == r.Pid {
			_ = os.Remove(path)
		}
	}, nil
}

// notReady removes what a killed process has left: nobody shall take it for the word of this one.
func notReady(c *cli.Context) error {
	path := c.String("ready-file")
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
