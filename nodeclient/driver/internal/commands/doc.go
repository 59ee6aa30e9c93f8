// Package commands reads increments that hold commands of a key-value database: each a name and its arguments, words
// of any bytes. An increment has one of two forms.
//
// Lines, one command a line, cut into words as redis-cli cuts them:
//
//	SET greeting "hello\r\n\x00"
//	LPUSH list 'it''s' "two words"
//
// Words stand between blanks. In double quotes \n \r \t \b \a \\ \" and \xHH stand for one byte each and a backslash
// before anything else for that alone; in single quotes only \' means something. A closing quote is followed by a
// blank or the end of the line. Lines end with LF or CRLF; empty ones are passed over.
//
// Or RESP arrays of bulk strings, one after the other, as a client sends them to a Redis server; binary safe, and
// what a program should write (Append):
//
//	*3\r\n$3\r\nSET\r\n$8\r\ngreeting\r\n$5\r\nhello\r\n
//
// A body that begins with an asterisk is in this form. Every body that breaks the rules is refused whole, with the
// line or byte at which it does.
package commands
