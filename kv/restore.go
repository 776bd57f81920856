package kv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"nvkv/nvmap"
)

// errStoreThere says that something is where Restore would make a store.
var errStoreThere = fmt.Errorf("nvkv: a store is there already: %w", os.ErrExist)

// Batches of a restore: transactions of this much are rolled into the store at
// a cost per record that does not fall any further.
const (
	restoreBatchRecords = 1000
	restoreBatchBytes   = 4 << 20
)

// Restore makes a store at path of what Backup wrote, with its expiries; what
// has expired meanwhile is left out. It reads r up to the end of the backup and
// not beyond. opts are those of the new store; Options.Progress is told how far
// it is.
//
// What is at path already stays: the error is os.ErrExist then. The store is
// there as a whole when Restore returns nil, and not at all after an error or a
// crash: a file is made under a temporary name (path with ".restore-" and a
// number, which only a crash leaves behind) and renamed at the end; on a device
// that is no file, one word at the end makes the store count. A stream that is
// not what Backup wrote is a *BackupError with the place.
func Restore(ctx context.Context, path string, r io.Reader, opts *Options) error {
	o := opts.withDefaults()
	if err := o.validate(); err != nil {
		return err
	}
	switch {
	case path == "":
		return errors.New("nvkv: restore: the path is empty")
	case o.ReadOnly || o.Device == "mem":
		return fmt.Errorf("nvkv: restore %s: into a store that is opened read-only or in memory nothing can be restored", path)
	}
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = restoreFile(ctx, path, r, &o)
	case err == nil && fi.Mode().IsRegular():
		err = errStoreThere
	case err == nil:
		err = restoreInto(ctx, path, r, &o)
	}
	if err != nil {
		return fmt.Errorf("restore %s: %w", path, err)
	}
	return nil
}

// restoreFile restores under a temporary name and then gives the file its own.
func restoreFile(ctx context.Context, path string, r io.Reader, o *Options) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".restore-*")
	if err != nil {
		return err
	}
	temp := f.Name()
	err = errors.Join(f.Chmod(fileMode), f.Close())
	if err == nil {
		err = restoreInto(ctx, temp, r, o)
	}
	if err == nil {
		err = giveName(temp, path)
	}
	if e := os.Remove(temp); !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// fileMode is what a file has that nvmap creates, where nothing masks it.
const fileMode = 0o644

// giveName makes a finished file known as path, durably, unless something has
// come to be there meanwhile: a second link takes no name away from anyone, as a
// rename would. Only where the file system has no links is it renamed.
func giveName(temp, path string) error {
	err := os.Link(temp, path)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EPERM) {
		if _, e := os.Lstat(path); e == nil {
			return errStoreThere
		}
		err = os.Rename(temp, path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // EINVAL: nothing to sync there
		return err
	}
	return nil
}

func restoreInto(ctx context.Context, path string, r io.Reader, o *Options) error {
	dev, err := nvmap.OpenDevice(path, nvmap.OpenOptions{Kind: o.Device, MaxBytes: o.MaxBytes})
	if err != nil {
		return err
	}
	return RestoreDevice(ctx, dev, r, o)
}

// RestoreDevice is Restore on a device of the caller's, which it closes, also on
// failure. The device must not hold a store.
func RestoreDevice(ctx context.Context, dev nvmap.Device, r io.Reader, opts *Options) error {
	in, err := newStreamReader(r)
	if err != nil {
		return errors.Join(err, dev.Close())
	}
	o := opts.withDefaults()
	o.unfinished = o.broken&ruleI20 == 0
	db, err := OpenDevice(dev, &o)
	if err != nil {
		return err
	}
	if err := db.restore(ctx, in); err != nil {
		return errors.Join(err, db.abandon())
	}
	return db.Close()
}

// restore fills an unfinished store. I20: it counts from the moment when all of
// it is durable.
func (db *DB) restore(ctx context.Context, in *streamReader) (err error) {
	p := newProgress("restore", in.header.keys, db.opt.Progress)
	b := db.NewBatch()
	bytes := int64(0)
	for at := now(); ; {
		key, value, expiry, err := in.record()
		if err == io.EOF {
			break
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if expiry == 0 || expiry > at {
			b.putUntil(key, value, expiry)
			bytes += int64(len(key) + len(value))
		}
		if b.Len() < restoreBatchRecords && b.Size() < restoreBatchBytes {
			continue
		}
		if err := db.Write(b); err != nil {
			return err
		}
		b.Reset()
		p.tell(int64(in.records), bytes, false)
	}
	if err := db.Write(b); err != nil {
		return err
	}
	if err := db.checkpoint(ctx); err != nil {
		return err
	}
	p.tell(int64(in.records), bytes, true)
	return db.r.Finish()
}

// abandon closes a store without a checkpoint.
func (db *DB) abandon() error {
	db.closed.Store(true)
	db.closing.Lock()
	defer db.closing.Unlock()
	db.done = true
	db.stopCheckpointer()
	return db.m.Close()
}
