package store

import (
	"context"
	_ "embed"
	"strings"

	"github.com/jackc/pgx/v5"
)

// postgresStructure describes all that this version's schema consists of on PostgreSQL, as postgresParts shows it.
//
//go:embed postgres_structure.txt
var postgresStructure string

// postgresParts lists what a schema consists of, by name: a missing index hides rows, a trigger or rule changes what is
// written, an unlogged table loses it, a policy hides it.
const postgresParts = `
SELECT 'relation ' || relname, concat_ws(' ', relkind, relpersistence, relrowsecurity) FROM pg_class
	WHERE relnamespace = current_schema()::regnamespace AND relkind NOT IN ('i', 't')
UNION ALL SELECT 'column ' || table_name || '.' || column_name,
	concat_ws(' ', data_type, collation_name, 'nullable', is_nullable, column_default, generation_expression)
	FROM information_schema.columns WHERE table_schema = current_schema()
UNION ALL SELECT 'index ' || indexrelid::regclass, regexp_replace(pg_get_indexdef(indexrelid), ' ON \S+\.', ' ON ') || ' valid ' || indisvalid
	FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = current_schema()::regnamespace AND relkind <> 't'::"char"
UNION ALL SELECT 'constraint ' || conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) FROM pg_constraint
	WHERE connamespace = current_schema()::regnamespace AND contype <> 'n'
UNION ALL SELECT 'trigger ' || tgrelid::regclass || '.' || tgname, pg_get_triggerdef(pg_trigger.oid) FROM pg_trigger
	JOIN pg_class ON pg_class.oid = tgrelid WHERE relnamespace = current_schema()::regnamespace AND NOT tgisinternal
UNION ALL SELECT 'rule ' || tablename || '.' || rulename, definition FROM pg_rules WHERE schemaname = current_schema()
UNION ALL SELECT 'policy ' || tablename || '.' || policyname, concat_ws(' ', cmd, qual, with_check) FROM pg_policies WHERE schemaname = current_schema()
UNION ALL SELECT 'event trigger ' || evtname, evtevent || ' ' || evtfoid::regprocedure FROM pg_event_trigger
ORDER BY 1`

func momentOfPostgres(ctx context.Context, database string) (*moment, error) {
	config, err := pgx.ParseConfig(database)
	if err != nil {
		return nil, err
	}
	if err := prepareConnection(config); err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	closeAll := func() { _ = conn.Close(context.WithoutCancel(ctx)) } // only read
	if _, err := conn.Exec(ctx, `BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY`); err != nil {
		closeAll()
		return nil, err
	}
	stored := pgSession{conn}
	return &moment{session: stored, structure: postgresStructureOf, faults: noFaults, close: closeAll}, nil
}

func postgresStructureOf(ctx context.Context, stored, _ session) (have, want map[string]string, err error) {
	have, err = pairs(ctx, stored, postgresParts)
	return have, parts(postgresStructure), err
}

// noFaults: PostgreSQL does not check its indexes by itself.
func noFaults(context.Context, session) ([]string, error) { return nil, nil }

// parts reads lines of a name and a description, with a tab between.
func parts(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		name, description, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		out[name] = description
	}
	return out
}
