package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
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

// grouped writes a number with commas.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// span writes a duration in its two greatest units: "1 h 12 m", "1 m 32 s", "0.2 s".
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d m %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d m", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// bytes writes a number of bytes in one of its units.
func byteWords(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 10<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n < 10<<30:
		return fmt.Sprintf("%s MiB", grouped(uint64(n)>>20))
	}
	return fmt.Sprintf("%s GiB", grouped(uint64(n)>>30))
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

// wrapped breaks text between words into lines of at most columns, the first behind first, the others behind rest. A word that is too
// long for a line is broken.
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
