package convert

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"nvkv/compat"
)

// A stage is where a destination is made before it takes its place.
type stage struct {
	to      Location // the destination
	dir     string   // beside it
	at      Location // the new store in dir
	release func() error
}

// newStage prepares the making of to. It refuses a destination that exists,
// unless force is set and it is a store that nobody uses.
func newStage(to Location, force bool) (*stage, error) {
	if resolved, err := filepath.EvalSymlinks(to.Path); err == nil {
		to.Path = resolved
	}
	existing, err := checkDestination(to, force)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(to.Path), ".nvkv-convert-")
	if err != nil {
		return nil, err
	}
	s := &stage{to: to, dir: dir, at: to, release: func() error { return nil }}
	s.at.Path = filepath.Join(dir, "new")
	if existing && to.Bucket != nil {
		if s.release, err = to.Format.Keep(to, s.at.Path); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	return s, nil
}

// checkDestination reports whether something is at to that will be replaced
// or, if to is a bucket, added to.
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

// checkUnused refuses a store that a process has open. One that cannot be
// opened for another reason may be replaced.
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

// publish moves the new store to the destination's place.
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

// adoptMode gives the new file the permissions of the one it replaces.
func (s *stage) adoptMode() error {
	info, err := os.Stat(s.to.Path)
	if err != nil || info.IsDir() {
		return nil // nothing there, or nothing to take over
	}
	return os.Chmod(s.at.Path, info.Mode().Perm())
}

// setAside moves the directory away that is to be replaced, as a rename cannot
// replace it, and returns what moves it back.
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
