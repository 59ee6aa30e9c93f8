package main

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

// screen is stdout or stderr as every command has them. What others wrote (producers, databases, a broker) may hold
// characters that a terminal obeys or that change the order in which a line reads: none of them gets through, they
// are shown as \xNN or \uNNNN. Line feeds and tabs are ours, so text from outside goes through plain first.
type screen struct {
	w    io.Writer
	json bool // what is written is JSON, and stays what it means: there every such character stands in a string
}

// Write implements io.Writer; it counts what came, not what it became.
func (s screen) Write(b []byte) (int, error) {
	text := string(b)
	if clean := s.shown(text); clean != text {
		b = []byte(clean)
	}
	if n, err := s.w.Write(b); err != nil {
		return min(n, len(text)), err
	}
	return len(text), nil
}

// shown is text as a screen shows it.
func (s screen) shown(text string) string {
	if strings.IndexFunc(text, hostile) < 0 && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i, width := 0, 0; i < len(text); i += width {
		var r rune
		r, width = utf8.DecodeRuneInString(text[i:])
		wrong := r == utf8.RuneError && width == 1
		switch {
		case !wrong && !hostile(r):
			b.WriteRune(r)
		case s.json && r == '\r':
			b.WriteByte(' ') // only between values
		case s.json && r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		case s.json: // one that is wrong is the character for such
			fmt.Fprintf(&b, `\u%04x`, r)
		case wrong:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// hostile reports whether r is a character that is not shown but obeyed: a control character besides line feed and
// tab, one that steers the direction of writing or another invisible one (category Cf, without the joiners that
// scripts need), or another separator of lines.
func hostile(r rune) bool {
	switch r {
	case '\n', '\t', '\u200c', '\u200d':
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// raw is what lies below a screen: for our own control characters, and for bytes that go to a file as they are.
func raw(w io.Writer) io.Writer {
	if s, is := w.(screen); is {
		return s.w
	}
	return w
}

// writeJSON prints v as one line of JSON.
func writeJSON(c *cli.Context, v any) error {
	return json.NewEncoder(screen{raw(c.App.Writer), true}).Encode(v)
}

// plain is text from outside on one line of a table: line feeds and tabs are spaces, the rest is as on a screen.
func plain(text string) string {
	return screen{}.shown(strings.NewReplacer("\r\n", " ", "\n", " ", "\t", " ").Replace(text))
}

// makePlain does that to every string in what v points to.
func makePlain(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			makePlain(v.Elem())
		}
	case reflect.String:
		if v.CanSet() {
			v.SetString(plain(v.String()))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			makePlain(v.Field(i))
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		for i := range v.Len() {
			makePlain(v.Index(i))
		}
	case reflect.Map:
		fresh := reflect.MakeMap(v.Type())
		for it := v.MapRange(); it.Next(); {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			key.Set(it.Key())
			value.Set(it.Value())
			makePlain(key)
			makePlain(value)
			fresh.SetMapIndex(key, value)
		}
		if v.CanSet() && !v.IsNil() {
			v.Set(fresh)
		}
	}
}
