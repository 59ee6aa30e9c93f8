package door

import (
	"maps"
	"slices"
	"strings"

	"xmq/broker/event"
)

// The headers of an increment, as every door with headers knows them, in lower case.
const (
	HeaderContentType = "content-type"
	HeaderKey         = "idempotency-key" // any text
	HeaderNumber      = "xmq-number"      // with which the producer counts; instead of a key
	HeaderSparse      = "xmq-sparse"      // "1": the numbers leave gaps; said with the producer's first one
	HeaderTopic       = "xmq-topic"
	HeaderProducer    = "xmq-producer"
	HeaderOrigin      = "xmq-origin"
	HeaderApplyLimit  = "xmq-apply-limit" // how long the increment may be at a database, see event.ParseLimit
)

// SetHeaders puts the headers of a request into a draft. values are those of one name, in lower case; none when it
// was not sent. A Producer that the draft has already is the only one that is taken. nil: each is there once, in its
// form.
func SetHeaders(d *event.Draft, values func(name string) []string) *Refusal {
	if refused := CheckEncoding(values); refused != nil {
		return refused
	}
	said := make(map[string]string)
	for _, name := range [...]string{HeaderContentType, HeaderKey, HeaderNumber, HeaderSparse, HeaderTopic,
		HeaderProducer, HeaderOrigin, HeaderApplyLimit} {
		switch v := values(name); len(v) {
		case 0:
		case 1:
			said[name] = v[0]
		default:
			return Refuse(Invalid, "the header %s stands there %d times: send it once", name, len(v))
		}
	}
	producer, named := said[HeaderProducer]
	if named && d.Producer != "" && producer != d.Producer {
		return Refuse(Invalid, "the header Xmq-Producer says %.40q, but this is producer %s", producer, d.Producer)
	}
	if named {
		d.Producer = producer
	}
	d.ContentType, d.Topic, d.Origin = said[HeaderContentType], said[HeaderTopic], said[HeaderOrigin]
	if limit, limited := said[HeaderApplyLimit]; limited {
		var err error
		if d.Limit, err = event.ParseLimit(limit); err != nil {
			return Refuse(Invalid, "Xmq-Apply-Limit: %v", err)
		}
	}
	return setKey(d, said)
}

// encoding is a header that says that the bytes are others than those sent.
const encoding = "content-encoding"

// CheckEncoding refuses bytes that are said to be packed: they are stored as they come. values are those of SetHeaders.
func CheckEncoding(values func(name string) []string) *Refusal {
	for _, v := range values(encoding) {
		if v != "" && v != "identity" {
			return Refuse(Media, "Content-Encoding %.40q is not taken: send the bytes as they are", v)
		}
	}
	return nil
}

// BatchFields are the headers of an increment, without that of its content type, which a request has of its own, and
// how the increments of a batch say the same.
var BatchFields = map[string]string{HeaderKey: "key", HeaderNumber: "number", HeaderSparse: "sparse",
	HeaderTopic: "topic", HeaderProducer: "producer", HeaderOrigin: "origin", HeaderApplyLimit: "apply_limit"}

// CheckBatchHeaders refuses headers of ours beside a batch, which says nothing of its increments in headers: whoever
// sends one means something that would not be done.
func CheckBatchHeaders(headers map[string][]string) *Refusal {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		low := strings.ToLower(name)
		field, ours := BatchFields[low]
		switch {
		case ours:
			return Refuse(Invalid, "the header %s is not heeded in a batch: say it of each increment in its field %q", name,
				field)
		case strings.HasPrefix(low, "xmq-"):
			return Refuse(Invalid, "the header %.40s is not known in a batch: leave it out", name)
		}
	}
	return CheckEncoding(func(name string) (all []string) {
		for sent, values := range headers {
			if strings.EqualFold(sent, name) {
				all = append(all, values...)
			}
		}
		return all
	})
}

// setKey puts the key or the number into a draft whose producer is known.
func setKey(d *event.Draft, said map[string]string) *Refusal {
	key, keyed := said[HeaderKey]
	number, counts := said[HeaderNumber]
	sparse, says := said[HeaderSparse]
	switch _, decimal := event.ParseNumber(number); {
	case keyed && counts:
		return Refuse(Invalid, "an increment has an idempotency key or a number, not both")
	case keyed && key == "":
		return Refuse(Invalid, "the idempotency key is empty: leave it out, or send one that no other increment has")
	case counts && !decimal:
		return Refuse(Invalid, "Xmq-Number is a decimal number of up to 64 bits without leading zeros, not %.40q", number)
	case counts && d.Producer == "":
		return Refuse(Invalid, "a number needs the name of its producer: send Xmq-Producer, or an Idempotency-Key "+
			"instead of Xmq-Number")
	case says && (sparse != "1" || !counts):
		return Refuse(Invalid, "Xmq-Sparse is 1 and stands beside Xmq-Number, or it is not sent")
	}
	d.Key, d.Sparse = key+number, says
	if d.Producer != "" {
		_, d.TextKey = event.ParseNumber(key)
	}
	return nil
}
