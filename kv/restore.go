package kv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"

	"nvkv/kv/internal/backup"
	"nvkv/nvmap"
)

// errStoreThere says that Restore found something at its path.
var errStoreThere = fmt.Errorf("nvkv: a store is there already: %w", os.ErrExist)

// Batches of a restore. Larger ones do not lower the cost of a record further.
const (
	restoreBatchRecords = 1000
	restoreBatchBytes   = 4 << 20
)

// Restore makes a store at path from a backup, with its expiries. Records that have expired since
// are left out. It reads r to its end, which must be the end of the backup: bytes behind it are an
// error. opts are the options of the new store. Restore calls Options.Progress.
//
// If path exists, Restore changes nothing and the error is os.ErrExist. The store is there as a
// whole when Restore returns nil, and not at all after an error or a crash. A file is made under a
// temporary name (path with ".restore-" and a number, which only a crash leaves behind) and linked
// to path at the end. On a device that is not a file, one word at the end makes the store count. If
// the stream is no whole backup, the error is a *BackupError with the place.
func Restore(ctx context.Context, path string, r io.Reader, opts *Options) error {
	if r == nil {
		return errNil
	}
	ctx = orBackground(ctx)
	o := opts.withDefaults()
	if err := o.validate(); err != nil {
		return err
	}
	switch {
	case path == "":
		return errors.New("nvkv: restore: the path is empty")
	case o.ReadOnly || o.Device == "mem":
		return fmt.Errorf("nvkv: restore %s: cannot restore into memory, or with the option ReadOnly", path)
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

// restoreFile restores under a temporary name and then gives the file its own name.
func restoreFile(ctx context.Context, path string, r io.Reader, o *Options) (err error) {
	temp := fmt.Sprintf("%s.restore-%d", path, rand.Uint64())
	mode := cmp.Or(o.FileMode, sourceMode(r))
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if o.FileMode == 0 { // the umask has reduced the source's mode already
		err = f.Chmod(mode)
	}
	err = errors.Join(err, f.Close())
	// It runs even if r panics.
	defer func() {
		if e := os.Remove(temp); e != nil && !errors.Is(e, os.ErrNotExist) && err == nil {
			err = e
		}
	}()
	if err == nil {
		err = restoreInto(ctx, temp, r, o)
	}
	if err == nil {
		err = giveName(temp, path)
	}
	return err
}

// sourceMode returns the mode of the file that r reads, with read and write permission for the
// owner, since a backup may be read-only. If r is not a file it returns ownerMode.
func sourceMode(r io.Reader) fs.FileMode {
	if f, ok := r.(fs.File); ok {
		if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() {
			return fi.Mode().Perm() | ownerMode
		}
	}
	return ownerMode
}

// ownerMode lets only the owner read and write.
const ownerMode = 0o600

// giveName gives a finished file the name path, durably, unless path exists by now. A link cannot
// replace an existing file, as a rename would. The file is renamed only if the file system has no
// links.
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
	if err := dir.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // EINVAL: not supported
		return err
	}
	return nil
}

func restoreInto(ctx context.Context, path string, r io.Reader, o *Options) error {
	dev, err := nvmap.OpenDevice(path, nvmap.OpenOptions{Kind: o.Device, LockTimeout: o.LockTimeout, MaxBytes: o.MaxBytes})
	if err != nil {
		return err
	}
	return RestoreDevice(ctx, dev, r, o)
}

// RestoreDevice is Restore on a device of the caller, which must not hold a store. It closes the
// device, even after an error.
func RestoreDevice(ctx context.Context, dev nvmap.Device, r io.Reader, opts *Options) error {
	if dev == nil {
		return errNil
	}
	release := dev.Close // what must be done after a panic of r or an error
	defer func() {
		if release != nil {
			release() // the first error, or the panic, is reported
		}
	}()
	if r == nil {
		return errNil
	}
	ctx = orBackground(ctx)
	in, err := backup.NewReader(r)
	if err != nil {
		return err
	}
	o := opts.withDefaults()
	o.Socket = ""
	o.unfinished = !o.broken.has(ruleI7)
	release = nil // the store owns the device from here
	db, err := OpenDevice(dev, &o)
	if err != nil {
		return err
	}
	release = db.abandon
	if err := db.restore(ctx, in); err != nil {
		return err
	}
	release = nil
	return db.Close()
}

// restore fills an unfinished store. I7: the store counts from the moment when all of it is
// durable.
func (db *DB) restore(ctx context.Context, in *backup.Reader) (err error) {
	p := newProgress("restore", in.Header().Keys, db.opt.Progress)
	b := db.NewBatch()
	bytes := int64(0)
	for at := db.now(); ; {
		key, value, expiry, err := in.Next()
		if err == io.EOF {
			if err := in.End(); err != nil {
				return err
			}
			break
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if expiry == 0 || expiry > at {
			b.move(key, value, expiry)
			bytes += int64(len(key) + len(value))
		}
		if b.Len() < restoreBatchRecords && b.Size() < restoreBatchBytes {
			continue
		}
		if err := db.Write(b); err != nil {
			return err
		}
		b.Reset()
		p.tell(in.Records(), bytes, false)
	}
	if err := db.Write(b); err != nil {
		return err
	}
	if err := db.checkpoint(ctx); err != nil {
		return err
	}
	p.tell(in.Records(), bytes, true)
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
