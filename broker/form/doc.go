// Package form knows the forms that the body of an increment can have for a database that speaks SQL: a script, one
// statement with arguments, or several of them. It reads the latter two, and says which forms a node must know.
//
//	INSERT INTO t VALUES (1); ...                    a script, as it stands
//	{"sql": "one statement", "args": [...]}          arguments in the place of the statement's placeholders
//	{"tx": [{"sql": ..., "args": [...]}, ...]}       several of them, one increment
//
// No SQL begins with {, so a body that does is JSON: UTF-8, each field once and spelled as here, no other fields, at
// most MaxDepth levels deep, at most Most statements, and Most arguments in each. "args" may be left out. An argument
// is
//
//	null, true, false       as they are
//	a number                its text as it stands, of any length: it never becomes a floating-point number on its way
//	a string                its text
//	{"base64": "..."}       bytes, in standard base64; an object with exactly this field
//	an object or array      the text of that JSON
//
// # Features
//
// What changes the meaning of an increment is a feature: a node names those it knows when it opens a session
// (event.Hello). The broker holds an increment before a node that does not know a feature which the increment needs.
// Whether it needs one is read from its body when it is to be sent, and only for a node that lacks a feature: so it
// holds for records of every age, and the log says nothing of it.
package form
