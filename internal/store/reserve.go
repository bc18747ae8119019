package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/writ-project/writ/internal/access"
)

const defaultReserve = 8 << 20

// reserve is a file that holds disk space for the time when there is none left: giving it up makes room in
// which revoking still works (I7).
type reserve struct {
	path string
	size int64
	kept atomic.Bool // false while only revoking is allowed
}

// keepReserve tries to have the file there, with blocks that are really allocated.
func keepReserve(path string, size int64) *reserve {
	if size == 0 {
		size = defaultReserve
	}
	r := &reserve{path: path, size: size}
	if info, err := os.Stat(path); err == nil && info.Size() >= size {
		r.kept.Store(true)
		return r
	}
	_ = r.fill() // a full disk must not keep Writ from starting: it can still revoke
	return r
}

func (r *reserve) fill() error {
	file, err := os.OpenFile(r.path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i) // zeros might be stored as a hole
	}
	for left := r.size; left > 0 && err == nil; left -= int64(len(block)) {
		_, err = file.Write(block[:min(left, int64(len(block)))])
	}
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, r.release())
	}
	r.kept.Store(true)
	return nil
}

func (r *reserve) release() error {
	r.kept.Store(false)
	if err := os.Remove(r.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// useReserve gives up the reserved space, once.
func (b *sqlite) useReserve() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.space.kept.Load() {
		return false
	}
	b.log.ErrorContext(context.Background(), "no space left: giving up the reserve so that revoking still works")
	if err := b.space.release(); err != nil {
		b.log.ErrorContext(context.Background(), "the reserve could not be given up", slog.Any("error", err))
		return false
	}
	if b.maxPages == 0 {
		return true
	}
	return b.limitPages(b.maxPages+b.space.size/pageSize) == nil
}

func (b *sqlite) granting() bool { return b.space.kept.Load() }

func (b *sqlite) recover(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.space == nil || b.space.kept.Load() {
		return nil
	}
	if err := b.reclaimPages(ctx); err != nil {
		return unavailable(err)
	}
	if err := b.space.fill(); err != nil {
		return fmt.Errorf("%w: the reserve cannot be held, free some space: %w", access.ErrUnavailable, err)
	}
	b.log.InfoContext(ctx, "the reserve is held again: everything works")
	return nil
}

const (
	pageSize = 4096
	headroom = 16 // pages that must be free before anything but revoking is tried again
)

// reclaimPages puts the bound on the database back, if it fits under it again.
func (b *sqlite) reclaimPages(ctx context.Context) error {
	if b.maxPages == 0 {
		return nil
	}
	var used, free int64
	if err := b.conn.QueryRowContext(ctx, `PRAGMA page_count`).Scan(&used); err != nil {
		return err
	}
	if err := b.conn.QueryRowContext(ctx, `PRAGMA freelist_count`).Scan(&free); err != nil {
		return err
	}
	if used > b.maxPages || used-free+headroom > b.maxPages {
		return fmt.Errorf("the database has %d pages, %d of them free, and may have %d: raise the limit or prune", used, free, b.maxPages)
	}
	return b.limitPages(b.maxPages)
}

func (b *sqlite) limitPages(pages int64) error {
	_, err := b.conn.ExecContext(context.Background(), "PRAGMA max_page_count = "+strconv.FormatInt(pages, 10))
	return err
}

// isFull reports whether a write failed for want of space.
func isFull(err error) bool {
	const (
		primary       = 0xff
		sqliteFull    = 13
		sqliteShmSize = 4874 // the index of the write-ahead log cannot grow
	)
	var coded interface{ Code() int } // the driver's error
	return errors.Is(err, syscall.ENOSPC) || errors.As(err, &coded) && (coded.Code()&primary == sqliteFull || coded.Code() == sqliteShmSize)
}
