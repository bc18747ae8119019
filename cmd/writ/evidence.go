package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/app"
	"github.com/writ-project/writ/internal/store"
)

type evidenceCommand struct {
	Verify evidenceVerifyCommand `cmd:"" help:"Check the whole database against its log; name every row that the log does not explain."`
	Show   evidenceShowCommand   `cmd:"" help:"Show one entry."`
	Prove  evidenceProveCommand  `cmd:"" help:"Write an entry and its proof, verifiable for ever with the public key alone."`
	Check  evidenceCheckCommand  `cmd:"" help:"Verify a proof offline."`
	Export evidenceExportCommand `cmd:"" help:"Write the log as static files that any tile client reads."`
	Prune  evidencePruneCommand  `cmd:"" help:"Delete old entries that an exported folder holds; their hashes and proofs stay."`
	Replay evidenceReplayCommand `cmd:"" help:"Compute every decision again and compare."`

	AcceptLoss acceptLossCommand `cmd:"" help:"Go on with an older log than this host has acknowledged; that is recorded in it."`
}

// logFiles say where a log lies.
type logFiles struct {
	Data     string `help:"Data folder." default:"data" type:"path"`
	Database string `help:"URL of a PostgreSQL database, or a SQLite file such as a backup, instead of the one in the data folder." placeholder:"URL"`
	Key      string `help:"File with the log's public key (default log.pub in the data folder)." placeholder:"FILE" type:"path"`
}

func (f *logFiles) database() string {
	if f.Database != "" {
		return f.Database
	}
	return filepath.Join(f.Data, app.DatabaseFile)
}

// check names what is wrong with where the database is said to be, before anything is opened.
func (f *logFiles) check() error {
	if err := f.checkURL(); err != nil || f.isURL() {
		return err
	}
	if _, err := os.Stat(f.database()); err != nil {
		return fmt.Errorf("%w: name the data folder with --data, or a PostgreSQL database with --database", err)
	}
	return nil
}

func (f *logFiles) isURL() bool { return strings.Contains(f.Database, "://") }

func (f *logFiles) checkURL() error {
	if !f.isURL() {
		return nil
	}
	if err := app.CheckDatabase(f.Database); err != nil {
		return fmt.Errorf("--database %w", err)
	}
	return nil
}

func (f *logFiles) verifierKey() (string, error) {
	path := f.Key
	if path == "" {
		path = filepath.Join(f.Data, "log.pub")
	}
	return readKey(path)
}

func readKey(path string) (string, error) {
	key, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%w: name the data folder with --data, or the log's public key with --key", err)
	}
	return strings.TrimSpace(string(key)), nil
}

func (f *logFiles) open(e *environment) (*store.Store, error) {
	key, err := f.verifierKey()
	if err != nil {
		return nil, err
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	return store.OpenReadOnly(e.ctx, f.database(), key)
}

type evidenceVerifyCommand struct {
	logFiles

	Checkpoint []string `help:"Checkpoint kept from before: shows that the log only grew. May be given more than once." placeholder:"FILE" type:"existingfile"`
	Witness    []string `help:"File with the public key of a witness that must have cosigned: each checkpoint given, or else the newest that the database keeps. May be given more than once." placeholder:"FILE" type:"existingfile"`
	Required   int      `help:"How many of the witnesses must have cosigned; 0 means all."`
	Archive    string   `help:"Exported folder with the entries that were pruned. Without it the tables of a pruned database cannot be compared." placeholder:"FOLDER" type:"existingdir"`
}

// kept opens the checkpoints that the log is compared with, and says who has cosigned them.
func (c *evidenceVerifyCommand) kept(e *environment, key string) (kept []evidence.Checkpoint, by []string, err error) {
	if len(c.Witness) == 0 && c.Required != 0 {
		return nil, nil, errors.New("--required counts witnesses: name their keys with --witness")
	}
	var policy *evidence.CosignaturePolicy
	if len(c.Witness) > 0 {
		if policy, err = c.policy(); err != nil {
			return nil, nil, err
		}
	}
	signed, err := c.signed(e)
	for from, text := range signed {
		checkpoint, cosigned, err := openKept(text, key, policy)
		if err != nil {
			return nil, nil, &exitError{exitTampered, fmt.Errorf("%s: %w", from, err)}
		}
		kept = append(kept, checkpoint)
		for _, cosignature := range cosigned {
			by = append(by, cosignature.Witness)
		}
	}
	slices.Sort(by)
	return kept, slices.Compact(by), err
}

// signed reads the checkpoints to compare with: those that are named, or else, for witnesses, the one that the database keeps.
func (c *evidenceVerifyCommand) signed(e *environment) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, path := range c.Checkpoint {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		out[path] = text
	}
	if len(c.Witness) == 0 || len(c.Checkpoint) > 0 {
		return out, nil
	}
	text, err := store.ReadCosigned(e.ctx, c.database())
	if err == nil && text == nil {
		err = errors.New("the database keeps no cosigned checkpoint: give one with --checkpoint, from a witness or from GET /log/checkpoint")
	}
	out["the cosigned checkpoint that the database keeps"] = text
	return out, err
}

func openKept(signed []byte, key string, policy *evidence.CosignaturePolicy) (evidence.Checkpoint, []evidence.Cosignature, error) {
	if policy != nil {
		return policy.Check(signed, key)
	}
	checkpoint, err := evidence.OpenCheckpoint(signed, key)
	return checkpoint, nil, err
}

func (c *evidenceVerifyCommand) policy() (*evidence.CosignaturePolicy, error) {
	keys := make([]string, 0, len(c.Witness))
	for _, path := range c.Witness {
		key, err := readKey(path)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	required := c.Required
	if required == 0 {
		required = len(keys)
	}
	return evidence.NewCosignaturePolicy(required, keys...)
}

func (c *evidenceVerifyCommand) Run(e *environment) error {
	key, err := c.verifierKey()
	if err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	kept, by, err := c.kept(e, key)
	if err != nil {
		return err
	}
	options := store.VerifyOptions{Kept: kept, Progress: e.progress()}
	if c.Archive != "" {
		if options.Archive, err = store.OpenArchive(c.Archive, key); err != nil {
			return err
		}
	}
	verified, err := store.Verify(e.ctx, c.database(), key, options)
	if err != nil {
		return err
	}
	if e.global.JSON {
		if err := e.json(map[string]any{
			"ok": verified.OK(), "entries": verified.Log.Entries, "rows": verified.Rows, "root": verified.Log.Root.String(),
			"checkpoints": len(kept), "cosigned_by": by, "findings": verified.Findings,
			"complete": verified.Complete(), "pruned": verified.Pruned, "unread": verified.Log.Unread,
		}); err != nil {
			return err
		}
	} else {
		printVerified(e, verified, len(kept), by)
	}
	if !verified.OK() {
		return &exitError{code: exitTampered}
	}
	if !verified.Complete() {
		return &exitError{code: exitIncomplete}
	}
	return nil
}

func printVerified(e *environment, v *store.Verified, kept int, by []string) {
	color := colorsFor(e.out)
	for _, f := range v.Findings {
		fmt.Fprintf(e.out, "%s%s%s  %s %s: %s\n", color.red, f.Code, color.off, f.Table, plain(f.Row), plain(f.Detail))
	}
	if !v.OK() {
		fmt.Fprintf(e.out, "%sThe evidence does not hold: %d findings.%s\n", color.red, len(v.Findings), color.off)
		return
	}
	if v.Complete() {
		fmt.Fprintf(e.out, "%sVerified.%s %d entries hash to the signed head of %s; %d rows are exactly what they explain.\n",
			color.green, color.off, v.Log.Entries, v.Checkpoint.Origin, v.Rows)
	} else {
		fmt.Fprintf(e.out, `%[1]sNot everything was verified.%[2]s %[3]d entries were pruned and not read: only their hashes are here.
All hashes and the other %[4]d entries agree with the signed head of %[5]s, but what the tables say was NOT compared with the log.
Name the folder that holds the pruned entries with --archive to verify everything.
`, color.yellow, color.off, v.Log.Unread, v.Log.Entries-v.Log.Unread, v.Checkpoint.Origin)
	}
	if read := v.Pruned - v.Log.Unread; read > 0 {
		fmt.Fprintf(e.out, "%d of the entries were pruned, and read from the archive.\n", read)
	}
	fmt.Fprintf(e.out, "Tasks sealed %d, open %d. Values opened %d, erased %d.\n", v.Log.TasksSealed, v.Log.TasksOpen, v.Log.ValuesOpened, v.Log.ValuesErased)
	if kept == 0 {
		fmt.Fprintln(e.out, "Compared with no checkpoint from before: keep one (`writ evidence export` writes it) to notice a log that was cut or replaced.")
	} else {
		fmt.Fprintf(e.out, "Compared with %d checkpoints from before: the log only grew.\n", kept)
		if len(by) > 0 {
			fmt.Fprintf(e.out, "Cosigned by %s: what they saw has not been rewritten.\n", plain(strings.Join(by, ", ")))
		}
	}
}

type evidenceShowCommand struct {
	logFiles

	Index int64 `arg:"" help:"Index of the entry."`
}

func (c *evidenceShowCommand) Run(e *environment) error {
	opened, err := c.open(e)
	if err != nil {
		return err
	}
	defer opened.Close()
	raw, err := opened.Entry(e.ctx, c.Index)
	if errors.Is(err, access.ErrPruned) {
		return fmt.Errorf("entry %d was pruned: the exported folder holds it, in %s", c.Index, evidence.TilePath(evidence.EntriesLevel, c.Index/evidence.TileWidth, evidence.TileWidth))
	}
	if errors.Is(err, access.ErrNotFound) {
		return fmt.Errorf("the log has %d entries, the last is %d", opened.Size(), opened.Size()-1)
	}
	if err != nil {
		return err
	}
	values, err := opened.Disclosures(e.ctx, c.Index)
	if err != nil {
		return err
	}
	shown := map[string]json.RawMessage{}
	for slot, value := range values {
		shown[slot] = value.Value
	}
	return e.json(map[string]any{"entry": json.RawMessage(raw), "values": shown})
}

type evidenceProveCommand struct {
	logFiles

	Index int64  `arg:"" help:"Index of the entry."`
	Out   string `help:"Folder to write N.json and N.tlog-proof to." default:"." type:"path"`
}

func (c *evidenceProveCommand) Run(e *environment) error {
	key, err := c.verifierKey()
	if err != nil {
		return err
	}
	opened, err := c.open(e)
	if err != nil {
		return err
	}
	defer opened.Close()
	raw, err := opened.Entry(e.ctx, c.Index)
	if err != nil {
		return fmt.Errorf("entry %d of %d: %w", c.Index, opened.Size(), err)
	}
	proof, err := opened.Proof(e.ctx, c.Index)
	if err != nil {
		return err
	}
	text, err := proof.Marshal()
	if err != nil {
		return err
	}
	entryFile := filepath.Join(c.Out, fmt.Sprintf("%d.json", c.Index))
	proofFile := filepath.Join(c.Out, fmt.Sprintf("%d.tlog-proof", c.Index))
	if err := errors.Join(os.MkdirAll(c.Out, 0o750), os.WriteFile(entryFile, raw, 0o644), os.WriteFile(proofFile, text, 0o644)); err != nil {
		return err
	}
	return checkProof(e, proofFile, entryFile, key)
}

type evidenceCheckCommand struct {
	Proof string `arg:"" help:"Proof (c2sp.org/tlog-proof)." type:"existingfile"`
	Entry string `arg:"" help:"The entry's exact bytes." type:"existingfile"`
	Key   string `help:"File with the log's public key." required:"" type:"existingfile"`
}

func (c *evidenceCheckCommand) Run(e *environment) error {
	key, err := readKey(c.Key)
	if err != nil {
		return err
	}
	return checkProof(e, c.Proof, c.Entry, key)
}

// checkProof needs nothing but two files and the public key.
func checkProof(e *environment, proofFile, entryFile, key string) error {
	text, err := os.ReadFile(proofFile)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(entryFile)
	if err != nil {
		return err
	}
	proof, err := evidence.ParseProof(text)
	if err != nil {
		return &exitError{exitTampered, fmt.Errorf("%s: %w", proofFile, err)}
	}
	checkpoint, err := evidence.VerifyInclusion(proof, raw, key)
	if err != nil {
		return &exitError{exitTampered, fmt.Errorf("%s: %w", proofFile, err)}
	}
	if e.global.JSON {
		return e.json(map[string]any{"ok": true, "index": proof.Index, "origin": checkpoint.Origin, "size": checkpoint.Size, "entry": entryFile, "proof": proofFile})
	}
	fmt.Fprintf(e.out, "Proven. Entry %d (%s) is in the log %s of %d entries, under its signed head (%s).\n", proof.Index, entryFile, checkpoint.Origin, checkpoint.Size, proofFile)
	return nil
}

type evidenceReplayCommand struct {
	logFiles

	Archive string `help:"Exported folder with the decisions that were pruned." placeholder:"FOLDER" type:"existingdir"`
}

func (c *evidenceReplayCommand) Run(e *environment) error {
	opened, err := c.open(e)
	if err != nil {
		return err
	}
	defer opened.Close()
	archive, err := c.archive()
	if err != nil {
		return err
	}
	progress := e.progress()
	replayed, err := app.Replay(e.ctx, opened, archive, func(read int64) { progress("replaying entries", read, opened.Size()) })
	if err != nil {
		return err
	}
	if e.global.JSON {
		if err := e.json(map[string]any{"decisions": replayed.Decisions, "erased": replayed.Erased, "pruned": replayed.Pruned, "mismatches": replayed.Mismatches}); err != nil {
			return err
		}
	} else {
		for _, m := range replayed.Mismatches {
			fmt.Fprintf(e.out, "entry %d, decision %s: %s\n", m.Evidence, m.Decision, m.Detail)
		}
		fmt.Fprintf(e.out, "%d decisions computed again, %d come out otherwise, %d whose inputs have been erased.\n", replayed.Decisions, len(replayed.Mismatches), replayed.Erased)
		if replayed.Pruned > 0 {
			fmt.Fprintf(e.out, "%d entries were pruned: name the folder that holds them with --archive to replay their decisions.\n", replayed.Pruned)
		}
	}
	if len(replayed.Mismatches) > 0 {
		return &exitError{code: exitTampered}
	}
	return nil
}

func (c *evidenceReplayCommand) archive() (*store.Archive, error) {
	if c.Archive == "" {
		return nil, nil
	}
	key, err := c.verifierKey()
	if err != nil {
		return nil, err
	}
	return store.OpenArchive(c.Archive, key)
}
