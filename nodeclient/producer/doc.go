// Package producer is for writers in Go: it hands increments to the broker over NATS, many a request and several
// requests under way, in order, and repeats what was not answered.
//
//	p, err := producer.Dial("nats://127.0.0.1:4222", "shop-1", producer.Options{Once: true})
//	...
//	err = p.Publish(ctx, event.Draft{Body: body}) // does not wait for the answer
//	...
//	err = p.Flush(ctx) // all of it is on the broker's disk
//	p.Close()
//
// The module has no public path yet, so a writer of another module needs a copy of it, and two lines in its go.mod:
//
//	require xmq v0.0.0
//	replace xmq => ../xmq
//
// Draft is of xmq/broker/event. Package xmq/configs/xmqtest runs a broker and nodes inside the writer's own tests.
//
// Drafts gather in a batch while earlier batches are under way; nothing lingers, and a full batch goes at once. Batches
// are numbered, and the broker takes none before the one in front of it (see event.Batch), so the order of one Producer
// is the order of its Publish calls whatever happens on the way.
//
// # When nobody takes them
//
// A Producer tries on whatever is wrong; Options.Trouble is told what it is, and Flush says it when its ctx ends. That
// nobody serves the group, because the broker is away or the group's name is wrong, is a *bus.Unserved, and is known
// before anything is published: a Producer asks when its connection stands. Tell people when it lasts for seconds.
//
// # Once or at least once
//
// An answer can be lost when the connection is cut or the broker dies, or come later than Options.Timeout. The batch is
// then repeated; one that is refused for now (busy, closing, disk full) was not stored and is repeated without harm.
// With Options.Once each draft carries a number, so that the broker knows it again and stores it once. Without, a
// repeated draft may be in the log twice.
//
// Numbers grow from draft to draft, and across restarts because a Producer begins with the clock's nanoseconds since
// 1970: nobody publishes more than one draft a nanosecond. A clock that was set back after an earlier run shows as
// ErrNumber, never as a silent loss. One that is more than a day ahead of the broker's is refused ("jump"), unless it
// is the first that the broker hears of the ID. One ID is for one Producer at a time.
package producer
