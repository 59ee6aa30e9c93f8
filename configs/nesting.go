package configs

import (
	"fmt"

	"github.com/goccy/go-yaml/scanner"
	"github.com/goccy/go-yaml/token"
)

// MaxNesting is how deep lists and groups of a configuration file may lie in each other; ours need three levels.
const MaxNesting = 64

// shallow refuses, before the parser sees it, a file that would cost it memory or time out of all proportion: what is
// nested deeply, and anchors, with which a few lines stand for thousands of millions of values. It stops at the first
// such place.
func shallow(text string) error {
	var s scanner.Scanner
	s.Init(text)
	n := nesting{}
	for {
		tokens, err := s.Scan()
		for _, t := range tokens {
			if err := n.take(t); err != nil {
				return err
			}
		}
		if err != nil { // the end; what is wrong with the text is the parser's to say
			return nil
		}
	}
}

// nesting is how deep a reader stands in a file.
type nesting struct {
	flow    int          // brackets and braces that are open
	columns []int        // of the block lists and groups that are open, outermost first
	tags    int          // tags directly in front, which are nested too
	last    *token.Token // the one before
}

func (n *nesting) take(t *token.Token) error {
	begins := t
	switch t.Type {
	case token.AnchorType, token.AliasType, token.MergeKeyType:
		return fmt.Errorf("line %d: anchors and aliases are not taken: write the value out", t.Position.Line)
	case token.SequenceStartType, token.MappingStartType:
		n.flow++
	case token.SequenceEndType, token.MappingEndType:
		n.flow = max(n.flow-1, 0)
	case token.DocumentHeaderType, token.DocumentEndType:
		n.flow, n.columns = 0, nil
	case token.MappingValueType:
		if begins = n.last; begins == nil {
			begins = t
		}
		fallthrough
	case token.SequenceEntryType, token.MappingKeyType:
		if n.flow == 0 {
			n.open(begins.Position.Column)
		}
	}
	if n.tags++; t.Type != token.TagType {
		n.tags = 0
	}
	n.last = t
	if n.flow+len(n.columns)+n.tags > MaxNesting {
		return fmt.Errorf("line %d: it is nested more than %d levels deep: is it a configuration file?", t.Position.Line,
			MaxNesting)
	}
	return nil
}

// open enters what begins at a column, and leaves what began farther right.
func (n *nesting) open(column int) {
	for len(n.columns) > 0 && n.columns[len(n.columns)-1] >= column {
		n.columns = n.columns[:len(n.columns)-1]
	}
	n.columns = append(n.columns, column)
}
