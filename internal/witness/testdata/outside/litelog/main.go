// Command litelog tells a litewitness of a log, in its database, as witnessctl does. (witnessctl itself needs the module
// sigsum.org/sigsum-go, which not every proxy has.)
package main

import (
	"flag"
	"fmt"
	"os"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

func main() {
	database := flag.String("db", "", "database of a litewitness, which has made its tables")
	origin := flag.String("origin", "", "of the log")
	key := flag.String("key", "", "verifier key of the log")
	flag.Parse()
	if err := run(*database, *origin, *key); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(database, origin, key string) error {
	db, err := sqlite.OpenConn(database, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	const emptyRoot = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	if err := sqlitex.Execute(db, "INSERT INTO log (origin, tree_size, tree_hash) VALUES (?, 0, ?)", &sqlitex.ExecOptions{Args: []any{origin, emptyRoot}}); err != nil {
		return err
	}
	if err := sqlitex.Execute(db, "INSERT INTO key (origin, key) VALUES (?, ?)", &sqlitex.ExecOptions{Args: []any{origin, key}}); err != nil {
		return err
	}
	return db.Close()
}
