package store

import (
	"errors"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
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

// isFull reports whether a write failed for want of space.
func isFull(err error) bool {
	const sqliteFull, primary = 13, 0xff
	var coded interface{ Code() int } // the driver's error
	return errors.Is(err, syscall.ENOSPC) || errors.As(err, &coded) && coded.Code()&primary == sqliteFull
}
