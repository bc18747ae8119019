package store

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write postgres_structure.txt anew")

// What verification takes for the structure of a PostgreSQL database is what the migrations make.
func TestPostgresStructure(t *testing.T) {
	f := openPostgres(t)
	made, err := pairs(context.Background(), f.reads, postgresParts)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(made)) {
		fmt.Fprintf(&text, "%s\t%s\n", name, made[name])
	}
	if *update {
		if err := os.WriteFile("postgres_structure.txt", []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(postgresStructure, text.String()); diff != "" {
		t.Errorf("the migrations make another structure (-expected +made), run with -update if that is meant:\n%s", diff)
	}
}
