//go:build unix

package store

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/writ-project/writ/internal/access"
)

// ErrInUse says that another process serves the database.
var ErrInUse = errors.New("another writ process serves this database: stop it, or use another data folder")

// fileLock keeps a second process from serving the same SQLite database. The kernel drops it when the process dies.
type fileLock struct{ file *os.File }

func lockFile(path string) (*fileLock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", access.ErrUnavailable, err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, ErrInUse), file.Close())
	}
	return &fileLock{file}, nil
}

func (l *fileLock) unlock() error { return l.file.Close() }
