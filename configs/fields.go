package configs

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"xmq/broker/secret"
)

// Field is one knob: a leaf of a configuration struct.
type Field struct {
	Key   string // "retention.max_bytes"
	Doc   string // meaning, in a few words
	value reflect.Value
}

// Copy takes the value of the same field of another configuration.
func (f Field) Copy(from Field) { f.value.Set(from.value) }

// Fields lists the knobs of a pointer to a configuration struct, in the order of the struct.
func Fields(cfg any) []Field { return walk(reflect.ValueOf(cfg).Elem(), "") }

// explained is a configuration struct that says what its own knobs do, by their names in the tags. A tag could not: it
// is one literal, and the longest of these texts take three lines.
type explained interface {
	Meanings() map[string]string
}

func walk(v reflect.Value, prefix string) (all []Field) {
	var meanings map[string]string
	if e, says := v.Interface().(explained); says {
		meanings = e.Meanings()
	}
	for i := range v.NumField() {
		t := v.Type().Field(i)
		name, _, _ := strings.Cut(t.Tag.Get("yaml"), ",")
		switch {
		case t.Anonymous:
			all = append(all, walk(v.Field(i), prefix)...)
		case t.Type.Kind() == reflect.Struct:
			all = append(all, walk(v.Field(i), prefix+name+".")...)
		default:
			all = append(all, Field{Key: prefix + name, Doc: meanings[name], value: v.Field(i)})
		}
	}
	return all
}

// Flag is the name on the command line, without dashes in front.
func (f Field) Flag() string { return strings.NewReplacer("_", "-", ".", "-").Replace(f.Key) }

// Env is the name of the environment variable.
func (f Field) Env() string { return "XMQ_" + strings.ToUpper(strings.ReplaceAll(f.Key, ".", "_")) }

// Kind says what a value looks like, for people.
func (f Field) Kind() string {
	switch f.value.Interface().(type) {
	case time.Duration:
		return "duration"
	case bool:
		return "true or false"
	case []string:
		return "list"
	case string:
		return "text"
	}
	return "number"
}

// IsBool reports whether the knob is a switch.
func (f Field) IsBool() bool { return f.value.Kind() == reflect.Bool }

// IsList reports whether the knob takes several values.
func (f Field) IsList() bool { return f.value.Kind() == reflect.Slice }

// Value is what the knob stands at, in the words of a YAML file.
func (f Field) Value() string {
	switch v := f.value.Interface().(type) {
	case time.Duration:
		return shortDuration(v)
	case []string:
		return "[" + strings.Join(v, ", ") + "]"
	case string:
		return strconv.Quote(v)
	default:
		return fmt.Sprint(v)
	}
}

// shortDuration writes 10m0s as 10m.
func shortDuration(d time.Duration) string {
	s := d.String()
	if d == 0 {
		return "0s"
	}
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Set sets the knob from text: the last of values, or for a list all of them, each split at commas.
func (f Field) Set(values []string) error {
	last := values[len(values)-1]
	switch p := f.value.Addr().Interface().(type) {
	case *time.Duration:
		d, err := time.ParseDuration(last)
		if err != nil {
			return fmt.Errorf("%q is no duration: write it like 500ms, 10s, 5m or 24h", last)
		}
		*p = d
	case *bool:
		b, err := strconv.ParseBool(last)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", last)
		}
		*p = b
	case *[]string:
		*p = nil
		for _, v := range values {
			for part := range strings.SplitSeq(v, ",") {
				if part = strings.TrimSpace(part); part != "" {
					*p = append(*p, part)
				}
			}
		}
	case *string:
		*p = last
	default:
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || f.value.Kind() == reflect.Uint64 && n < 0 || f.value.Kind() != reflect.Uint64 &&
			f.value.OverflowInt(n) {
			return fmt.Errorf("%q is not a whole number in range", last)
		}
		if f.value.Kind() == reflect.Uint64 {
			f.value.SetUint(uint64(n))
		} else {
			f.value.SetInt(n)
		}
	}
	return nil
}

// setYAML sets the knob from a value of a YAML file: what a text is must be one there too, or 1.10 would become 1.1.
func (f Field) setYAML(v any) error {
	var values []string
	items, list := v.([]any)
	if !list {
		items = []any{v}
	}
	for _, item := range items {
		_, text := item.(string)
		switch {
		case item == nil:
			return errors.New("it has no value: write one, or leave the key out")
		case list && !f.IsList():
			return fmt.Errorf("it is one value (%s), not a list", f.Kind())
		case !text && (f.IsList() || f.Kind() == "text"):
			return fmt.Errorf("%v is no text: put it in quotes", item)
		}
		values = append(values, fmt.Sprint(item))
	}
	if f.IsList() {
		f.value.Set(reflect.ValueOf(values))
		return nil
	}
	return f.Set(values)
}

// secrets reports whether a value holds a password.
func secrets(fields []Field) bool {
	for _, f := range fields {
		if s, ok := f.value.Interface().(string); ok && secret.HasPassword(s) {
			return true
		}
	}
	return false
}
