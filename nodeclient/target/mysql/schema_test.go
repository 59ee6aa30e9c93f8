package mysql

// schema is a database of the kind people have.
var schema = []string{"SELECT 1"}
