package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// part is a file that is made under a temporary name beside its own, so that it is complete when it
// gets its name.
type part struct {
	file *os.File // open under its temporary name
	path string   // its own name
	mode fs.FileMode
}

func newPart(path string, mode fs.FileMode) (*part, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*")
	if err != nil {
		return nil, partError(path, err)
	}
	return &part{f, path, mode}, nil
}

// partError names the wanted file in an error, instead of the temporary one.
func partError(path string, err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return &fs.PathError{Op: "create", Path: path, Err: at.Err}
	}
	return err
}

// publish gives the file its name, durably, unless another file has got that name meanwhile.
func (p *part) publish() error {
	if err := p.seal(); err != nil {
		return err
	}
	temp := p.file.Name()
	err := os.Link(temp, p.path) // unlike a rename, it replaces no file
	switch {
	case err == nil:
		os.Remove(temp) // a second name does no harm
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.EPERM): // no links on this file system
		if _, e := os.Lstat(p.path); e == nil {
			return &fs.PathError{Op: "create", Path: p.path, Err: os.ErrExist}
		}
		err = os.Rename(temp, p.path)
	}
	if err != nil {
		return err
	}
	return syncDirectory(p.path)
}

// replace is publish, but replaces an existing file.
func (p *part) replace() error {
	if err := p.seal(); err != nil {
		return err
	}
	if err := os.Rename(p.file.Name(), p.path); err != nil {
		return err
	}
	return syncDirectory(p.path)
}

// seal makes contents and mode durable.
func (p *part) seal() error {
	return errors.Join(p.file.Chmod(p.mode), p.file.Sync(), p.file.Close())
}

// discard removes the file unless it has its own name.
func (p *part) discard() {
	p.file.Close() // a second close does no harm
	os.Remove(p.file.Name())
}

// syncDirectory makes the name of a file durable.
func syncDirectory(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	dir.Sync() // some file systems have nothing to sync here
	return nil
}

// modeOf returns the permissions for a copy of the file at path, with write permission for the
// owner. If path is no regular file, it returns permissions for the owner only.
func modeOf(path string) fs.FileMode {
	if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() {
		return fi.Mode().Perm() | 0o600
	}
	return 0o600
}
