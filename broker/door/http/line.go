package http

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"unicode/utf8"

	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/broker/form"
)

// parseLine reads one line of a batch, a JSON object of strings, but for "number" and "sparse". It is stricter than
// encoding/json, which would change a body in silence: names stand once and as written here, and the text is valid
// Unicode.
func parseLine(b []byte) (event.Draft, *door.Refusal) {
	var d event.Draft
	invalid := func(format string, args ...any) (event.Draft, *door.Refusal) {
		return event.Draft{}, door.Refuse(door.Invalid, format, args...)
	}
	if !utf8.Valid(b) {
		return invalid("it is not UTF-8: send such a body as base64")
	}
	if form.LoneSurrogate(b) {
		return invalid("it holds half a surrogate pair, which is no character: send such a body as base64")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return invalid("it is not a JSON object")
	}
	var body, packed string
	said := map[string][]string{}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return invalid("it is not the JSON of an increment: %v", err)
		}
		name, _ := t.(string) // the decoder lets nothing else be a name
		header, known := fields[name]
		switch {
		case !known:
			return invalid("the field %.40q is not known", name)
		case seen[name]:
			return invalid("the field %q stands there twice", name)
		}
		seen[name] = true
		if t, err = dec.Token(); err != nil {
			return invalid("it is not the JSON of an increment: %v", err)
		}
		v, wanted := text(name, t)
		switch {
		case wanted != "":
			return invalid("the field %q is not %s", name, wanted)
		case name == "body":
			body = v
		case name == "base64":
			packed = v
		case t != false:
			said[header] = []string{v}
		}
	}
	if _, err := dec.Token(); err != nil {
		return invalid("it is not the JSON of an increment: %v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return invalid("something follows the JSON object")
	}
	if refused := door.SetHeaders(&d, func(name string) []string { return said[name] }); refused != nil {
		return event.Draft{}, door.Refuse(refused.Code, "%s", inFields.Replace(refused.Text))
	}
	if seen["body"] == seen["base64"] {
		return invalid("it needs either body or base64")
	}
	d.Body = []byte(body)
	if seen["base64"] {
		var err error
		if d.Body, err = base64.StdEncoding.Strict().DecodeString(packed); err != nil {
			return invalid("base64: %v", err)
		}
	}
	return d, nil
}

// inFields tells a line what is told of headers.
var inFields = strings.NewReplacer("Xmq-Producer", `"producer"`, "an Idempotency-Key", `a "key"`,
	"Xmq-Number", `"number"`, "Xmq-Sparse is 1 and", `"sparse" is true and`, "Xmq-Apply-Limit", `"apply_limit"`)

// fields are those of a line, with the headers that say the same.
var fields = map[string]string{"body": "", "base64": "", "topic": door.HeaderTopic,
	"content_type": door.HeaderContentType,
	"key":          door.HeaderKey, "producer": door.HeaderProducer, "origin": door.HeaderOrigin,
	"apply_limit": door.HeaderApplyLimit, "number": door.HeaderNumber, "sparse": door.HeaderSparse}

// text is the value of a field as its header says it; wanted says what the value had to be when it is not.
func text(name string, t json.Token) (v, wanted string) {
	switch name {
	case "sparse":
		if b, ok := t.(bool); !ok {
			return "", "true or false"
		} else if b {
			return "1", ""
		}
		return "", ""
	case "number":
		if n, ok := t.(json.Number); ok {
			return n.String(), ""
		}
	}
	v, ok := t.(string)
	if !ok {
		return "", "a string"
	}
	return v, ""
}
