package sqltext

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Whole is an error for a line that is a piece of something longer, so that whoever sends it line by line sends a
// script by mistake: an open quote, parenthesis or transaction, a statement without its second half, a piece of a
// JSON text, a comment alone, a word with which no statement begins. A line that it takes may still be wrong: it
// knows how statements begin and end, not their grammar.
func Whole(d Dialect, line string) error {
	text := strings.TrimSpace(strings.TrimPrefix(line, "\uFEFF"))
	if strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") && d != SQLite {
		if !json.Valid([]byte(text)) {
			return errors.New("it is a piece of a JSON text")
		}
		return nil
	}
	if strings.HasPrefix(text, `\`) {
		return fmt.Errorf("%.20q is a command of a client program, not SQL", text)
	}
	found, open := false, false
	for st, err := range Statements(d, text) {
		if err != nil {
			return errors.New(strings.TrimPrefix(err.Error(), "line 1: "))
		}
		found = true
		switch {
		case begins(st):
			open = true
		case commits(st) && !open:
			return fmt.Errorf("its %s ends a transaction that begins elsewhere", st.Control)
		case commits(st), rollsBack(st):
			open = false
		case st.Control == "":
			if err := wholeStatement(d, st); err != nil {
				return err
			}
		}
	}
	switch {
	case !found:
		return errors.New("it holds no statement")
	case open:
		return errors.New("its transaction does not end")
	}
	return nil
}

// beginners are the words with which statements begin, of any of the dialects.
var beginners = wordSet(`ABORT ALTER ANALYZE ANALYSE ATTACH BEGIN CACHE CALL CHANGE CHECK CHECKPOINT CHECKSUM CLOSE
	CLUSTER COMMENT COMMIT COPY CREATE DEALLOCATE DECLARE DELETE DESC DESCRIBE DETACH DISCARD DO DROP END EXECUTE EXPLAIN
	FETCH FLUSH FOR GET GRANT HANDLER HELP IF IMPORT INSERT INSTALL KILL LISTEN LOAD LOCK LOOP MERGE MOVE NOTIFY OPTIMIZE
	PRAGMA PREPARE PURGE REASSIGN REFRESH REINDEX RELEASE RENAME REPAIR REPEAT REPLACE RESET RESIGNAL RESTART RESTORE
	REVOKE ROLLBACK SAVEPOINT SECURITY SELECT SET SHOW SHUTDOWN SIGNAL START STOP TABLE TRUNCATE UNINSTALL UNLISTEN UNLOCK
	UPDATE USE VACUUM VALUES WHILE WITH XA`)

// unfinished are words after which a statement goes on.
var unfinished = wordSet(`ADD AND AS BETWEEN BY CASE CREATE DELETE DISTINCT DROP ELSE EXCEPT FROM GROUP HAVING IN INNER
	INSERT INTERSECT INTO JOIN OR ORDER REFERENCES RETURNING SELECT SET THEN UNION UPDATE USING VALUES WHEN WHERE WITH`)

// halves are, for the first word of a statement, the words of which one stands in it when it is whole.
var halves = map[string]map[string]bool{
	"INSERT":  wordSet("VALUES VALUE SELECT DEFAULT SET TABLE WITH EXECUTE"),
	"REPLACE": wordSet("VALUES VALUE SELECT DEFAULT SET TABLE WITH EXECUTE"),
	"UPDATE":  wordSet("SET"),
	"DELETE":  wordSet("FROM"),
	"MERGE":   wordSet("WHEN"),
	"WITH":    wordSet("SELECT INSERT UPDATE DELETE REPLACE MERGE VALUES TABLE"),
}

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}

func wholeStatement(d Dialect, st Statement) error {
	all, err := Tokens(d, st.Text)
	if err != nil || len(all) == 0 {
		return err
	}
	depth, half := 0, halves[st.Keyword] == nil
	for i, t := range all {
		switch {
		case t.Quoted:
		case t.Text == "(":
			depth++
		case t.Text == ")":
			if depth--; depth < 0 {
				return errors.New("it has a ) without its (")
			}
		case i > 0 && t.Word && depth == 0 && halves[st.Keyword][strings.ToUpper(t.Text)]:
			half = true
		}
	}
	last := all[len(all)-1]
	switch first := all[0]; {
	case first.Mark || first.Text == "(": // an executed comment; a SELECT in parentheses
	case !first.Word:
		return fmt.Errorf("no statement begins with %.20q", first.Text)
	case !beginners[st.Keyword]:
		return fmt.Errorf("no statement begins with %.20s", first.Text)
	}
	switch {
	case depth > 0:
		return errors.New("it has a ( that is not closed")
	case !half:
		return fmt.Errorf("its %s has no second half", st.Keyword)
	case last.Text == ",", last.Text == "=", last.Word && len(all) > 1 && unfinished[strings.ToUpper(last.Text)] &&
		!defaults(all):
		return fmt.Errorf("it goes on after %.20s", last.Text)
	}
	return nil
}

// defaults reports whether a statement ends in DEFAULT VALUES.
func defaults(all []Token) bool {
	return len(all) > 2 && all[len(all)-2].Is("DEFAULT") && all[len(all)-1].Is("VALUES")
}
