package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"nvkv/compat"
)

// A stage is the place in which a destination is made before it is renamed.
type stage struct {
	from    Location // the source
	to      Location // the destination
	dir     string   // directory beside the destination
	at      Location // the new store in dir
	release func() error
}

// newStage prepares to make to. It refuses a destination that exists, unless force is set and the
// destination is a store that is not in use.
func newStage(from, to Location, force bool) (*stage, error) {
	if resolved, err := filepath.EvalSymlinks(to.Path); err == nil {
		to.Path = resolved
	}
	existing, err := checkDestination(to, force)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(to.Path), stagePrefix(os.Getpid()))
	if err != nil {
		return nil, err
	}
	s := &stage{from: from, to: to, dir: dir, at: to, release: func() error { return nil }}
	s.at.Path = filepath.Join(dir, "new")
	if existing && to.Bucket != nil {
		if s.release, err = to.Format.Keep(to, s.at.Path); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	return s, nil
}

// destroys reports whether replacing to would destroy from, also through links. Two buckets of one
// file, neither inside the other, do not affect each other.
func destroys(from, to Location) bool {
	target, err := os.Stat(to.Path)
	if err != nil {
		return false // no destination yet
	}
	at, err := filepath.EvalSymlinks(from.Path)
	if err == nil {
		at, err = filepath.Abs(at)
	}
	if err != nil {
		return false // no source either
	}
	source, err := os.Stat(at)
	if err == nil && os.SameFile(source, target) {
		return !areApart(from.Bucket, to.Bucket)
	}
	for ; at != filepath.Dir(at); at = filepath.Dir(at) {
		if around, err := os.Stat(filepath.Dir(at)); err == nil && os.SameFile(around, target) {
			return true
		}
	}
	return false
}

// areApart reports whether two buckets differ and neither is inside the other.
func areApart(a, b [][]byte) bool {
	for i := range min(len(a), len(b)) {
		if !bytes.Equal(a[i], b[i]) {
			return true
		}
	}
	return false
}

func stagePrefix(pid int) string { return fmt.Sprintf(".nvkv-convert-%d-", pid) }

// StagePattern returns a pattern, for filepath.Glob, of the directories that a conversion to path
// by process pid leaves behind if it is interrupted.
func StagePattern(path string, pid int) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	dir := strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(filepath.Dir(path))
	return filepath.Join(dir, stagePrefix(pid)+"*")
}

// checkDestination reports whether to exists and will be replaced or, if to is a bucket, added to.
func checkDestination(to Location, force bool) (existing bool, err error) {
	info, err := os.Stat(to.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	switch {
	case to.Format.Directory && isEmptyDirectory(to.Path):
		return false, nil
	case info.IsDir() != to.Format.Directory, !info.IsDir() && !info.Mode().IsRegular():
		return true, fmt.Errorf("%s exists and is no %s store", to.Path, to.Format.Name)
	case to.Bucket != nil:
		return true, nil
	case !force:
		return true, fmt.Errorf("%s: %w", to.Path, ErrExists)
	case info.IsDir() && !to.Format.IsStore(to.Path):
		return true, fmt.Errorf("%s is no %s store and is not replaced", to.Path, to.Format.Name)
	}
	return true, checkUnused(to)
}

func isEmptyDirectory(path string) bool {
	entries, err := os.ReadDir(path)
	return err == nil && len(entries) == 0
}

// checkUnused refuses a store that a process has open. A store that cannot be opened for another
// reason may be replaced.
func checkUnused(l Location) error {
	source, err := l.Format.Open(l)
	if errors.Is(err, compat.ErrLocked) {
		return err
	}
	if err != nil {
		return nil
	}
	return source.Close()
}

// publish renames the new store to the destination.
func (s *stage) publish() error {
	if err := s.adoptMode(); err != nil {
		return err
	}
	restore := func() error { return nil }
	if s.to.Format.Directory {
		var err error
		if restore, err = s.setAside(); err != nil {
			return err
		}
	}
	if err := os.Rename(s.at.Path, s.to.Path); err != nil {
		return errors.Join(err, restore())
	}
	return syncDirectory(filepath.Dir(s.to.Path))
}

// adoptMode gives the new store its permissions.
func (s *stage) adoptMode() error { return os.Chmod(s.at.Path, s.mode()) }

// mode returns the permissions for the new store: those of the store that it replaces, or else
// those of the source with write permission for the owner, or else owner only.
func (s *stage) mode() fs.FileMode {
	if info, err := os.Stat(s.to.Path); err == nil {
		return info.Mode().Perm()
	}
	mode := fs.FileMode(0o600)
	if info, err := os.Stat(s.from.Path); err == nil && (info.Mode().IsRegular() || info.IsDir()) {
		mode |= info.Mode().Perm() & 0o666
	}
	if s.to.Format.Directory {
		mode |= mode & 0o444 >> 2 // users who may read the files may enter
	}
	return mode
}

// setAside moves away the directory that is to be replaced, because a rename cannot replace it. It
// returns a function that moves it back.
func (s *stage) setAside() (restore func() error, err error) {
	old := filepath.Join(s.dir, "old")
	err = os.Rename(s.to.Path, old)
	if errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil
	}
	return func() error { return os.Rename(old, s.to.Path) }, err
}

// remove ends the stage, published or not.
func (s *stage) remove() error {
	return errors.Join(s.release(), os.RemoveAll(s.dir))
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
