package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access/event"
)

// table names an authoritative table and how many of its first columns are its key.
type table struct {
	name string
	keys int
}

// authoritative are the tables that the entries alone explain.
func authoritative() []table {
	return []table{
		{"catalog", 2}, {"catalog_version", 1}, {"identities", 1}, {"facts", 1}, {"tasks", 1}, {"task_log", 1}, {"task_labels", 2},
		{"decisions", 1}, {"grants", 1}, {"approvals", 1}, {"answers", 2}, {"comments", 2}, {"usage", 3}, {"touched", 2}, {"precedents", 4},
		{"migrations", 1}, // not of the log, but of this version
	}
}

// Finding is one thing in the database that the log does not explain.
type Finding struct {
	Table  string `json:"table"`
	Row    string `json:"row"`  // its key
	Code   string `json:"code"` // changed, inserted, deleted, or a code of the evidence package
	Detail string `json:"detail"`
}

// Verified is what Verify found.
type Verified struct {
	Checkpoint evidence.Checkpoint
	Log        evidence.Report
	Rows       int64 // compared
	Findings   []Finding
	// Pruned counts the entries that are not in the database any more, as the log says; Log.Unread those of them that were not
	// read from an archive either. If there are any of these, the tables could not be rebuilt, and were not compared.
	Pruned int64
}

// OK reports whether nothing is wrong with what was read.
func (v *Verified) OK() bool { return len(v.Findings) == 0 && v.Log.Omitted == 0 }

// Complete reports whether everything was read and compared. If it is not, OK alone does not say that the log explains every row.
func (v *Verified) Complete() bool { return v.Log.Unread == 0 }

// VerifyOptions are what Verify can do without.
type VerifyOptions struct {
	Scratch  string                // folder for the rebuilt tables; empty is the system's
	Kept     []evidence.Checkpoint // from before
	Archive  *Archive              // for entries that were pruned
	Progress Progress
}

// Verify checks a database against its own log, with nothing but the log's public key: the entries hash to the signed
// head and to every checkpoint kept from before, each value opens its commitment, and the authoritative tables, built
// again from the entries alone, are row by row the ones that are there. It only reads, and may run beside a server.
// Entries that were pruned, as the log says, are read from the archive; without one their hashes in the tiles stand for them, and
// the tables cannot be compared. database is as in Options.
func Verify(ctx context.Context, database, verifierKey string, o VerifyOptions) (*Verified, error) {
	stored, err := momentOf(ctx, database)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", placeOf(database), err)
	}
	defer stored.close()
	rebuilt, closeRebuilt, err := newScratch(ctx, o.Scratch)
	if err != nil {
		return nil, err
	}
	defer closeRebuilt()
	got, err := newVerification(ctx, stored, rebuilt, o).run(verifierKey)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", placeOf(database), err)
	}
	return got, nil
}

// moment is one moment of a database that may be in use.
type moment struct {
	session

	// structure is how the database is built, by name of the part, and how this version would have built it.
	structure func(ctx context.Context, stored, rebuilt session) (have, want map[string]string, err error)
	// faults are what the database says of itself.
	faults func(ctx context.Context, stored session) ([]string, error)
	close  func()
}

func momentOf(ctx context.Context, database string) (*moment, error) {
	if isPostgres(database) {
		return momentOfPostgres(ctx, database)
	}
	return momentOfSQLite(ctx, database)
}

func momentOfSQLite(ctx context.Context, path string) (*moment, error) {
	db, err := openSQLite(path, "rw", []string{"query_only(1)", "busy_timeout(2000)"})
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	stored := newPrepared(conn)
	closeAll := func() { _ = errors.Join(stored.close(), conn.Close(), db.Close()) } // only read
	if err := stored.exec(ctx, `BEGIN`); err != nil {
		closeAll()
		return nil, err
	}
	return &moment{session: stored, structure: sqliteStructure, faults: sqliteFaults, close: closeAll}, nil
}

func sqliteStructure(ctx context.Context, stored, rebuilt session) (have, want map[string]string, err error) {
	if have, err = pairs(ctx, stored, sqliteSchema); err == nil {
		want, err = pairs(ctx, rebuilt, sqliteSchema)
	}
	return have, want, err
}

func sqliteFaults(ctx context.Context, stored session) (faults []string, err error) {
	err = stored.each(ctx, sqliteIntegrity, nil, func(row func(...any) error) error {
		var fault string
		err := row(&fault)
		if fault != "ok" {
			faults = append(faults, fault)
		}
		return err
	})
	return faults, err
}

// newScratch is an empty database of the present schema.
func newScratch(ctx context.Context, folder string) (*buffered, func(), error) {
	dir, err := os.MkdirTemp(folder, "writ-verify-")
	if err != nil {
		return nil, nil, err
	}
	clean := func() { _ = os.RemoveAll(dir) }                                                                                                                             // a leftover folder does no harm
	db, err := openSQLite(filepath.Join(dir, "rebuilt.db"), "rwc", []string{"journal_mode(MEMORY)", "synchronous(OFF)", "locking_mode(EXCLUSIVE)", "cache_size(-65536)"}) // 64 MiB in memory; what is more goes to the file
	if err != nil {
		clean()
		return nil, nil, err
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		clean()
		return nil, nil, errors.Join(err, db.Close())
	}
	w := newSQLiteWriter(conn)
	closeAll := func() { _ = errors.Join(w.close(), conn.Close(), db.Close()); clean() }
	if err = migrate(ctx, w, sqliteDialect()); err == nil {
		err = w.exec(ctx, `BEGIN`)
	}
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	return &buffered{writer: w, forms: newForms()}, closeAll, nil
}

type verification struct {
	ctx     context.Context
	stored  *moment
	rebuilt *buffered
	tree    *evidence.Tree
	bundles map[string]bool
	out     Verified
	chunk   map[int64]map[string]evidence.Disclosure // values of the entries at hand
	from    int64                                    // index of the first of them
	broken  bool                                     // a tile does not hold the hashes of the entries
	last    time.Time                                // of the last entry
	options VerifyOptions
	gaps    gaps

	batch   []decodedEntry // what was read, and is not yet handed over to be rebuilt
	decoded chan []decodedEntry
}

func newVerification(ctx context.Context, stored *moment, rebuilt *buffered, o VerifyOptions) *verification {
	return &verification{ctx: ctx, stored: stored, rebuilt: rebuilt, tree: evidence.NewTree(), bundles: map[string]bool{}, options: o, gaps: gaps{tile: -1}}
}

func (v *verification) find(table, row, code, format string, args ...any) {
	v.out.Findings = append(v.out.Findings, Finding{table, row, code, fmt.Sprintf(format, args...)})
}

func (v *verification) run(verifierKey string) (*Verified, error) {
	if err := v.checkSchema(); err != nil {
		return nil, err
	}
	if err := v.dropIndexes(); err != nil {
		return nil, err
	}
	head, err := v.head(verifierKey)
	if err != nil {
		return nil, err
	}
	v.out.Checkpoint = head
	log := evidence.NewVerifier(head.Origin)
	log.ReadDisclosures(v.disclosure)
	for _, checkpoint := range v.options.Kept {
		log.ExpectCheckpoint(checkpoint)
	}
	if v.options.Archive != nil {
		log.ExpectCheckpoint(v.options.Archive.Checkpoint)
	}
	if err := v.replay(log); err != nil {
		return nil, err
	}
	v.out.Log = log.Finish(head)
	for _, p := range v.out.Log.Problems {
		table, row := v.place(p)
		v.find(table, row, string(p.Code), "%s", p.Detail)
	}
	if err := v.checkLog(); err != nil {
		return nil, err
	}
	v.explainGaps()
	for _, t := range authoritative() {
		if !v.out.Complete() && t.name != "migrations" {
			continue // what was not read is not in the rebuilt tables
		}
		if err := v.compare(t); err != nil {
			return nil, fmt.Errorf("compare %s: %w", t.name, err)
		}
	}
	return &v.out, nil
}

// checkSchema compares the database's own structure with that of this version: a missing index hides rows, a trigger adds some.
func (v *verification) checkSchema() error {
	applied, err := pairs(v.ctx, v.stored, `SELECT name, checksum FROM migrations`)
	if err != nil {
		return fmt.Errorf("this is not a database of writ: %w", err)
	}
	known, err := pairs(v.ctx, v.rebuilt, `SELECT name, checksum FROM migrations`)
	if err != nil {
		return err
	}
	for name := range applied {
		if name == unfinished {
			return ErrUnfinished
		}
		if _, ok := known[name]; !ok {
			return fmt.Errorf("%w (it has migration %s)", ErrNewerDatabase, name)
		}
	}
	have, want, err := v.stored.structure(v.ctx, v.stored, v.rebuilt)
	if err != nil {
		return err
	}
	for name, text := range want {
		if got, ok := have[name]; !ok {
			v.find("schema", name, "deleted", "it must be there: %s", text)
		} else if got != text {
			v.find("schema", name, "changed", "it is %s, not %s", got, text)
		}
	}
	for name, text := range have {
		if _, ok := want[name]; !ok {
			v.find("schema", name, "inserted", "this version has none such: %s", text)
		}
	}
	faults, err := v.stored.faults(v.ctx, v.stored)
	for _, fault := range faults {
		v.find("schema", "storage", "changed", "%s", fault)
	}
	return err
}

// dropIndexes rids the rebuilt tables of the indexes that nothing asks for here: what they hold is in the tables.
func (v *verification) dropIndexes() error {
	indexes, err := pairs(v.ctx, v.rebuilt, `SELECT name, type FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL`)
	for name := range indexes {
		err = errors.Join(err, v.rebuilt.exec(v.ctx, `DROP INDEX `+name))
	}
	return errors.Join(err, v.rebuilt.flush(v.ctx))
}

func pairs(ctx context.Context, on session, text string) (map[string]string, error) {
	out := map[string]string{}
	err := on.each(ctx, text, nil, func(row func(...any) error) error {
		var key, value string
		err := row(&key, &value)
		out[key] = value
		return err
	})
	return out, err
}

// head reads the signed head. One that does not verify is a finding; the entries then are covered by nothing.
func (v *verification) head(verifierKey string) (head evidence.Checkpoint, err error) {
	origin, _, _ := strings.Cut(verifierKey, "+")
	none := evidence.Checkpoint{Origin: origin, Root: evidence.NewTree().Root()}
	var signed []byte
	err = v.stored.row(v.ctx, `SELECT checkpoint FROM head WHERE one = 1`, nil, &signed)
	if errors.Is(err, sql.ErrNoRows) {
		v.find("head", "1", "deleted", "the log has no signed head")
		return none, nil
	}
	if err != nil {
		return head, fmt.Errorf("read the head of the log: %w", err)
	}
	head, err = evidence.OpenCheckpoint(signed, verifierKey)
	switch {
	case errors.Is(err, evidence.ErrKey):
		return head, err
	case err != nil:
		v.find("head", "1", "changed", "it does not verify under this key: %v", err)
		return none, nil
	}
	return head, nil
}

// checkHead compares the head's other columns with what they repeat.
func (v *verification) checkHead() error {
	var size, at int64
	err := v.stored.row(v.ctx, `SELECT size, time FROM head WHERE one = 1`, nil, &size, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // head has named it
	}
	if err == nil && size != v.out.Checkpoint.Size {
		v.find("head", "1", "changed", "it says size %d, its checkpoint %d", size, v.out.Checkpoint.Size)
	}
	if err == nil && at != micros(v.last) {
		v.find("head", "1", "changed", "its time is %s, that of the last entry %s", fromMicros(at), v.last)
	}
	return err
}

// place says in which row a problem of the log lies, as closely as it is known.
func (v *verification) place(p evidence.Problem) (table, row string) {
	if slices.Contains([]evidence.Code{evidence.CodeValueAltered, evidence.CodeValueMissing, evidence.CodeErasedPresent}, p.Code) {
		return "disclosures", fmt.Sprint(p.Index)
	}
	if p.Index != evidence.WholeLog {
		return "entries", fmt.Sprint(p.Index)
	}
	size := v.tree.Size()
	if full := size / evidence.TileWidth * evidence.TileWidth; p.Code == evidence.CodeRoot && !v.broken && full < size {
		return "entries", fmt.Sprintf("%d to %d, unless tiles were changed with their entries", full, size-1)
	}
	return "entries", "the log as a whole"
}

// chunkSize is how many entries are read at once, with the values that lie beside them.
const chunkSize = 1024

// replay reads every entry once: into the verifier, and through the projection into the rebuilt tables. The tables are rebuilt
// beside the reading, from what was read before.
func (v *verification) replay(log *evidence.Verifier) error {
	v.decoded = make(chan []decodedEntry, 1)
	found := make(chan []Finding)
	go func() {
		var findings []Finding
		for batch := range v.decoded {
			findings = append(findings, v.rebuild(batch)...)
		}
		found <- findings
	}()
	err := v.readEntries(log)
	v.decoded <- v.batch
	close(v.decoded)
	v.out.Findings = append(v.out.Findings, <-found...)
	return err
}

func (v *verification) readEntries(log *evidence.Verifier) error {
	for next := int64(0); ; {
		entries, err := v.read(next)
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			if e.index != next {
				if err := v.bridge(log, next, e.index); err != nil {
					return err
				}
			}
			next = e.index + 1
			if err := v.add(log, e.index, e.body); err != nil {
				return err
			}
			v.options.Progress.tell("verifying entries", next, v.out.Checkpoint.Size)
		}
	}
}

func (v *verification) add(log *evidence.Verifier, index int64, body []byte) error {
	entry, ok := log.Add(body)
	if err := v.checkTiles(evidence.LeafHash(body)); err != nil || !ok { // the verifier has named it
		return err
	}
	return v.decode(index, entry)
}

// decodedEntry is what an entry says, as the projection takes it.
type decodedEntry struct {
	projection

	event event.Event
}

// rebuild projects into the rebuilt tables, which are its alone while entries are read; everything else is the reader's.
func (v *verification) rebuild(batch []decodedEntry) (findings []Finding) {
	cannot := func(row, format string, err error) {
		findings = append(findings, Finding{"entries", row, "inconsistent", fmt.Sprintf(format, err)})
	}
	for i := range batch {
		h := &batch[i]
		if err := h.project(h.event); err != nil {
			cannot(fmt.Sprint(h.index), "it cannot follow on what came before: %v", err)
		}
	}
	if err := v.rebuilt.flush(v.ctx); err != nil && len(batch) > 0 {
		cannot(fmt.Sprintf("%d to %d", batch[0].index, batch[len(batch)-1].index), "they cannot follow on what came before: %v", err)
	}
	return findings
}

// entryRow is an entry as it is stored.
type entryRow struct {
	index int64
	body  []byte
}

// read reads the next entries, and the values that lie beside them.
func (v *verification) read(from int64) ([]entryRow, error) {
	entries := make([]entryRow, 0, chunkSize)
	err := v.stored.each(v.ctx, `SELECT idx, body FROM entries WHERE idx >= $1 ORDER BY idx LIMIT $2`, []any{from, int64(chunkSize)},
		func(row func(...any) error) error {
			var e entryRow
			err := row(&e.index, &e.body)
			entries = append(entries, e)
			return err
		})
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	v.from, v.chunk = entries[0].index, map[int64]map[string]evidence.Disclosure{}
	return entries, v.stored.each(v.ctx, `SELECT idx, slot, salt, value FROM disclosures WHERE idx >= $1 AND idx <= $2`,
		[]any{v.from, entries[len(entries)-1].index}, func(row func(...any) error) error {
			var index int64
			var slot any
			var d evidence.Disclosure
			if err := row(&index, &slot, &d.Salt, (*[]byte)(&d.Value)); err != nil {
				return err
			}
			if v.chunk[index] == nil {
				v.chunk[index] = map[string]evidence.Disclosure{}
			}
			name, text := slot.(string)
			if !text { // no query finds it
				v.find("disclosures", fmt.Sprintf("%d, %s", index, show(slot)), "changed", "its slot is not stored as text")
				return nil
			}
			v.chunk[index][name] = d
			return nil
		})
}

// checkTiles compares the tiles that the entry fills with those stored, which names the entry that was changed.
func (v *verification) checkTiles(leaf evidence.Hash) error {
	for _, tile := range v.tree.Append(leaf) {
		var stored []byte
		err := v.stored.row(v.ctx, `SELECT data FROM tiles WHERE level = $1 AND n = $2`, []any{tile.Level, tile.Index}, &stored)
		name := fmt.Sprintf("%d, %d", tile.Level, tile.Index)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			v.broken = true
			v.find("tiles", name, "deleted", "the entries fill it, but it is not there")
		case err != nil:
			return err
		case !bytes.Equal(stored, tile.Data):
			v.broken = true
			v.find("tiles", name, "changed", "it does not hold the hashes of the entries")
			if tile.Level == 0 {
				v.nameEntries(tile, stored)
			}
		}
	}
	return nil
}

func (v *verification) nameEntries(tile evidence.Tile, stored []byte) {
	const size = len(evidence.Hash{})
	for i := 0; i < evidence.TileWidth && (i+1)*size <= len(stored); i++ {
		if !bytes.Equal(stored[i*size:(i+1)*size], tile.Data[i*size:(i+1)*size]) {
			index := tile.Index*evidence.TileWidth + int64(i)
			v.find("entries", fmt.Sprint(index), "changed", "entry %d is not the one whose hash is in the tree", index)
		}
	}
}

func (v *verification) decode(index int64, entry evidence.Entry) error {
	e, known, err := event.Decode(entry.Type, entry.Data)
	switch {
	case !known:
		v.find("entries", entry.ID, "unknown_type", "this version does not know %q: verify with the version that wrote it", entry.Type)
		return nil
	case err != nil:
		v.find("entries", entry.ID, "entry_malformed", "%v", err)
		return nil
	}
	v.last = entry.Time
	switch e := e.(type) {
	case *event.PolicyActivated:
		v.bundles[e.Bundle] = true
	case *event.Installed:
		if index > 0 {
			break
		}
		if err := v.checkKey(e); err != nil {
			return err
		}
	case *event.LogPruned:
		v.gaps.explain(index, e)
	}
	if err := v.extraDisclosures(index, entry); err != nil {
		return err
	}
	if v.gaps.unread {
		return nil // the tables cannot be rebuilt any more
	}
	v.batch = append(v.batch, decodedEntry{projection{ctx: v.ctx, on: v.rebuilt, index: index, at: entry.Time, task: entry.Task}, e})
	if len(v.batch) == chunkSize {
		v.decoded <- v.batch
		v.batch = make([]decodedEntry, 0, chunkSize)
	}
	return nil
}

// checkKey compares the key that pseudonyms are made with with the one that the log began with.
func (v *verification) checkKey(installed *event.Installed) error {
	var key []byte
	err := v.stored.row(v.ctx, `SELECT value FROM settings WHERE name = $1`, []any{settingPseudonymKey}, &key)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		v.find("settings", settingPseudonymKey, "deleted", "the key that pseudonyms are made with is gone")
	case err != nil:
		return err
	case event.NewPseudonymizer(key).Fingerprint() != installed.Pseudonyms:
		v.find("settings", settingPseudonymKey, "changed", "this is not the key that the log began with")
	}
	return nil
}

func (v *verification) disclosure(index int64, slot string) (d evidence.Disclosure, found bool, err error) {
	if v.options.Archive != nil && contains(v.gaps.missing, index) {
		values, err := v.options.Archive.Values(index)
		d, found = values[slot]
		return d, found, err
	}
	if index >= v.from {
		d, found = v.chunk[index][slot]
		return d, found, nil
	}
	err = v.stored.row(v.ctx, `SELECT salt, value FROM disclosures WHERE idx = $1 AND slot = $2`, []any{index, slot}, &d.Salt, (*[]byte)(&d.Value))
	if errors.Is(err, sql.ErrNoRows) {
		return d, false, nil
	}
	return d, err == nil, err
}

// checkLog looks for rows of the log itself that nothing explains.
func (v *verification) checkLog() error {
	if err := v.checkHead(); err != nil {
		return err
	}
	if err := v.extraTiles(); err != nil {
		return err
	}
	if err := v.strayDisclosures(); err != nil {
		return err
	}
	seen := map[string]bool{}
	err := v.stored.each(v.ctx, `SELECT hash, content FROM bundles`, nil, func(row func(...any) error) error {
		var key any
		var content []byte
		if err := row(&key, &content); err != nil {
			return err
		}
		hash, text := key.(string)
		if !text { // no query finds it
			v.find("bundles", fmt.Sprint(show(key)), "changed", "its hash is not stored as text")
			return nil
		}
		seen[hash] = true
		if want := bundleHash(content); want != hash {
			v.find("bundles", hash, "changed", "its content has the hash %s", want)
		}
		if !v.bundles[hash] {
			v.find("bundles", hash, "inserted", "no entry activated it")
		}
		return nil
	})
	for hash := range v.bundles {
		if !seen[hash] {
			v.find("bundles", hash, "deleted", "an entry activated it, but its content is gone")
		}
	}
	return err
}

func (v *verification) extraTiles() error {
	return v.stored.each(v.ctx, `SELECT level, n FROM tiles`, nil, func(row func(...any) error) error {
		var level, n int64
		if err := row(&level, &n); err != nil {
			return err
		}
		if level < 0 || n < 0 || n >= v.tree.Size()>>(8*(level+1)) {
			v.find("tiles", fmt.Sprintf("%d, %d", level, n), "inserted", "the log is too small for it")
		}
		return nil
	})
}

// extraDisclosures looks for values beside an entry that it does not commit to.
func (v *verification) extraDisclosures(index int64, entry evidence.Entry) (err error) {
	values, table := v.chunk[index], "disclosures"
	if contains(v.gaps.missing, index) {
		if values, err = v.options.Archive.Values(index); err != nil {
			return err
		}
		table = inArchive
	}
	if len(values) == 0 {
		return nil
	}
	commitments, err := entry.Commitments()
	if err != nil {
		return nil //nolint:nilerr // the verifier has named it
	}
	for slot := range values {
		if _, ok := commitments[slot]; !ok {
			v.find(table, fmt.Sprintf("%d, %s", index, slot), "inserted", "no entry commits to it")
		}
	}
	return nil
}

// strayDisclosures looks for values beside no entry at all.
func (v *verification) strayDisclosures() error {
	return v.stored.each(v.ctx, `SELECT disclosures.idx, disclosures.slot FROM disclosures
		LEFT JOIN entries ON entries.idx = disclosures.idx WHERE entries.idx IS NULL`, nil, func(row func(...any) error) error {
		var index, slot any
		if err := row(&index, &slot); err != nil {
			return err
		}
		v.find("disclosures", fmt.Sprintf("%v, %v", show(index), show(slot)), "inserted", "there is no such entry")
		return nil
	})
}
