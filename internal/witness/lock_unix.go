//go:build unix

package witness

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// fileLock keeps a second process from using the same memory. The kernel drops it when the process dies.
type fileLock struct{ file *os.File }

func lockFile(path string) (*fileLock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, ErrInUse), file.Close())
	}
	return &fileLock{file}, nil
}

func (l *fileLock) unlock() error { return l.file.Close() }
