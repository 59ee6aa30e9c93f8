package main

import (
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// size is how many columns and rows a screen has; rows 0 for no end. What is no terminal has 120 columns.
type size struct{ columns, rows int }

func sizeOf(w io.Writer) size {
	s := size{columns: 120}
	f, is := raw(w).(*os.File)
	if !is {
		return s
	}
	if z, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && z.Col > 0 {
		return size{int(z.Col), int(z.Row)}
	}
	return s
}

// when writes a time of today as its clock, any other with its date, always with the zone.
func when(t, now time.Time) string {
	switch t, now = t.UTC(), now.UTC(); {
	case t.IsZero():
		return "-"
	case t.Format(time.DateOnly) == now.Format(time.DateOnly):
		return t.Format("15:04:05Z")
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// wrapped breaks text between words into lines of at most columns, the first behind first, the others behind rest. A
// word that is too long for a line is broken.
func wrapped(text, first, rest string, columns int) string {
	var b strings.Builder
	line := first
	width, empty := utf8.RuneCountInString(first), true
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		if !empty && width+1+n > columns {
			b.WriteString(line + "\n")
			line, width, empty = rest, utf8.RuneCountInString(rest), true
		}
		for width+n > columns && columns > width { // alone on its line, and too long for it
			cut := []rune(word)
			b.WriteString(line + string(cut[:columns-width]) + "\n")
			word, line, width = string(cut[columns-width:]), rest, utf8.RuneCountInString(rest)
			n = utf8.RuneCountInString(word)
		}
		if !empty {
			line, width = line+" ", width+1
		}
		line, width, empty = line+word, width+n, false
	}
	if !empty {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// joined puts parts on lines of at most columns, two spaces between them.
func joined(columns int, parts ...string) string {
	var b strings.Builder
	width := 0
	for _, part := range parts {
		if part == "" {
			continue
		}
		n := utf8.RuneCountInString(part)
		switch {
		case width == 0:
		case width+2+n > columns:
			b.WriteByte('\n')
			width = 0
		default:
			b.WriteString("  ")
			width += 2
		}
		b.WriteString(part)
		width += n
	}
	b.WriteByte('\n')
	return b.String()
}
