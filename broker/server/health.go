package server

import (
	"os"
	"time"

	"xmq/broker/api"
	"xmq/broker/disk"
	"xmq/broker/version"
)

func (b *Broker) header() api.Header {
	host, _ := os.Hostname() // only for people
	h := api.Header{Time: time.Now().UTC(), Version: version.Version, Host: host, Pid: os.Getpid(),
		Started: b.started.UTC(), Rate: b.flow.PerSecond()}
	if free, total, err := disk.Space(b.stores.dir); err == nil {
		h.DiskFree, h.DiskTotal = free, total
	}
	return h
}
