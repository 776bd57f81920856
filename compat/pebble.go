package compat

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	pebbleCacheBytes    = 1 << 30
	pebbleMemTableBytes = 64 << 20
	pebbleBloomBits     = 10 // per key
)

var pebbleErrors = errorMap{
	{pebble.ErrNotFound, ErrNotFound},
	{pebble.ErrClosed, ErrClosed},
	{pebble.ErrReadOnly, ErrReadOnly},
	{pebble.ErrBatchTooLarge, ErrValueTooLarge},
	{syscall.ENOSPC, ErrFull},
	{pebble.ErrDBDoesNotExist, fs.ErrNotExist},
}

func pebbleError(err error) error {
	// Pebble marks corruption in a way that the standard errors.Is does not recognise. It marks a
	// batch that is too large in the same way.
	if pebble.IsCorruptionError(err) && !errors.Is(err, pebble.ErrBatchTooLarge) {
		return &engineError{"pebble", ErrCorrupt, err}
	}
	return pebbleErrors.convert("pebble", err)
}

// pebbleEngine is a pebble directory.
type pebbleEngine struct {
	db       *pebble.DB
	path     string
	readOnly bool
	keys     keyCoding
	lock     *pebble.Lock
	files    *countingFS
	write    *pebble.WriteOptions
	gate     *gate
	readers  openReaders
	user     atomic.Uint64 // bytes
	failed   atomic.Bool   // a commit could not be logged
	writes   sync.RWMutex  // read-locked by writes, locked by conditional ones
	faults   *pebbleFaults
}

// pebbleFaults passes on the errors of pebble's background work, which pebble retries for ever: on
// a full disk a flush would never end.
type pebbleFaults struct {
	mu   sync.Mutex
	last error
	next chan struct{} // closed by the next fault
}

func newPebbleFaults() *pebbleFaults { return &pebbleFaults{next: make(chan struct{})} }

func (f *pebbleFaults) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = err
	close(f.next)
	f.next = make(chan struct{})
}

// wait returns nil when done is closed, or the next fault if that comes first.
func (f *pebbleFaults) wait(done <-chan struct{}) error {
	f.mu.Lock()
	next := f.next
	f.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-next:
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.last
	}
}

func openPebble(path string, opts Options) (Engine, error) {
	files := &countingFS{FS: vfs.Default}
	lock, err := lockPebble(path, files, opts.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	faults := newPebbleFaults()
	settings := pebbleSettings(opts, files, faults)
	settings.Lock = lock
	db, err := pebble.Open(path, settings)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, pebbleError(err)), lock.Close())
	}
	e := &pebbleEngine{
		db:       db,
		path:     path,
		readOnly: settings.ReadOnly,
		keys:     keyCoding{opts.RawKeys, MaxKeyBytes},
		lock:     lock,
		files:    files,
		write:    pebble.Sync,
		gate:     newGate(),
		faults:   faults,
	}
	if opts.Relaxed {
		e.write = pebble.NoSync
	}
	return e, nil
}

// lockPebble takes the directory's lock before pebble does, because pebble's errors do not
// distinguish a locked store from a broken one.
func lockPebble(path string, files vfs.FS, readOnly bool) (*pebble.Lock, error) {
	if err := needDirectory(path, readOnly); err != nil {
		return nil, err
	}
	lock, err := pebble.LockDirectory(path, files)
	if err == nil {
		return lock, nil
	}
	var errno syscall.Errno
	if errors.As(err, &errno) && errno != syscall.EAGAIN && errno != syscall.EACCES {
		return nil, pebbleError(err)
	}
	return nil, &engineError{"pebble", ErrLocked, err}
}

// needDirectory makes the directory at path. If readOnly is set, it must exist.
func needDirectory(path string, readOnly bool) error {
	if !readOnly {
		return os.MkdirAll(path, 0o777)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &engineError{"pebble", ErrNotStore, errors.New("not a directory")}
	}
	return nil
}

func pebbleSettings(opts Options, files vfs.FS, faults *pebbleFaults) *pebble.Options {
	settings := &pebble.Options{
		FS:                          files,
		ReadOnly:                    opts.ReadOnly,
		ErrorIfNotExists:            opts.ReadOnly,
		CacheSize:                   pebbleCacheBytes,
		MemTableSize:                pebbleMemTableBytes,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               64 << 20,
		FormatMajorVersion:          pebble.FormatNewest,
		CompactionConcurrencyRange:  compactionRange,
		Logger:                      pebbleLogger{},
		// The default ends the process. Here the call that met the damage reports it.
		EventListener: &pebble.EventListener{
			DataCorruption:  func(pebble.DataCorruptionInfo) {},
			BackgroundError: faults.add,
		},
	}
	for i := range settings.Levels {
		settings.Levels[i].FilterPolicy = bloom.FilterPolicy(pebbleBloomBits)
	}
	if opts.Pebble != nil {
		opts.Pebble(settings)
	}
	return settings
}

// compactionRange allows as many concurrent compactions as CockroachDB does: all processors but
// one, at most four.
func compactionRange() (lower, upper int) {
	return 1, min(4, max(1, runtime.NumCPU()-1))
}

func (e *pebbleEngine) Get(dst, key []byte) ([]byte, error) {
	return e.get(e.db, dst, key)
}

func (e *pebbleEngine) Put(key, value []byte) error {
	if !e.gate.enter() {
		return ErrClosed
	}
	defer e.gate.leave()
	stored, err := e.keys.writable(key)
	if err != nil {
		return pebbleError(err)
	}
	return e.commit(uint64(len(key)+len(value)), func() error { return e.db.Set(stored, value, e.write) })
}

func (e *pebbleEngine) Delete(key []byte) error {
	if !e.gate.enter() {
		return ErrClosed
	}
	defer e.gate.leave()
	return e.commit(uint64(len(key)), func() error { return e.db.Delete(e.keys.stored(key), e.write) })
}

func (e *pebbleEngine) WriteBatch(ops []Op) error {
	if !e.gate.enter() {
		return ErrClosed
	}
	defer e.gate.leave()
	if len(ops) == 0 {
		return nil
	}
	batch := e.db.NewBatch()
	defer batch.Close()
	for i := range ops {
		if err := e.keys.pebbleApply(batch, &ops[i]); err != nil {
			return pebbleError(err)
		}
	}
	return e.commit(userBytes(ops), func() error { return batch.Commit(e.write) })
}

func (e *pebbleEngine) Scan(start []byte, n int, fn func(key, value []byte) bool) error {
	return e.scan(e.db, start, n, fn)
}

func (e *pebbleEngine) Snapshot() (Reader, error) {
	if !e.gate.enter() {
		return nil, ErrClosed
	}
	defer e.gate.leave()
	snapshot := e.db.NewSnapshot()
	r := &pebbleReader{engine: e, snapshot: snapshot}
	e.readers.add(r, func() error { return pebbleError(snapshot.Close()) })
	return r, nil
}

// Flush syncs the log and writes the memtables out as tables. Compactions continue after it.
func (e *pebbleEngine) Flush() error {
	if !e.gate.enter() {
		return ErrClosed
	}
	defer e.gate.leave()
	if e.readOnly {
		return nil
	}
	done, err := e.db.AsyncFlush()
	if err != nil {
		return pebbleError(err)
	}
	return pebbleError(e.faults.wait(done))
}

func (e *pebbleEngine) SizeOnDisk() (int64, error) {
	if !e.gate.enter() {
		return 0, ErrClosed
	}
	defer e.gate.leave()
	return diskBytes(e.path)
}

func (e *pebbleEngine) Stats() Stats {
	return Stats{
		UserBytes:  e.user.Load(),
		MediaBytes: e.files.bytes.Load(),
		Fences:     e.files.syncs.Load(),
	}
}

func (e *pebbleEngine) Close() error {
	if !e.gate.close() {
		return nil
	}
	err := e.readers.endAll()
	return errors.Join(err, pebbleError(e.db.Close()), e.lock.Close())
}

// Exceptions implements the method that [Exceptions] uses.
func (e *pebbleEngine) Exceptions() []Exception {
	return relaxedExceptions(!e.write.Sync)
}

// pebbleReader is a pebble snapshot.
type pebbleReader struct {
	engine   *pebbleEngine
	snapshot *pebble.Snapshot
	ended    bool
}

func (r *pebbleReader) Get(dst, key []byte) ([]byte, error) {
	if r.ended {
		return dst, ErrTxClosed
	}
	return r.engine.get(r.snapshot, dst, key)
}

func (r *pebbleReader) Scan(start []byte, n int, fn func(key, value []byte) bool) error {
	if r.ended {
		return ErrTxClosed
	}
	return r.engine.scan(r.snapshot, start, n, fn)
}

func (r *pebbleReader) Close() error {
	if !r.engine.gate.enter() {
		return nil // the engine's Close has ended the snapshot
	}
	defer r.engine.gate.leave()
	r.ended = true
	return r.engine.readers.end(r)
}

func (c *keyCoding) pebbleApply(batch *pebble.Batch, op *Op) error {
	if op.expires() {
		return ErrNoExpiry
	}
	if op.Delete {
		return batch.Delete(c.stored(op.Key), nil)
	}
	stored, err := c.writable(op.Key)
	if err != nil {
		return err
	}
	return batch.Set(stored, op.Value, nil)
}

// get is Get on the store or on one of its snapshots.
func (e *pebbleEngine) get(from pebble.Reader, dst, key []byte) ([]byte, error) {
	if !e.gate.enter() {
		return dst, ErrClosed
	}
	defer e.gate.leave()
	value, closer, err := from.Get(e.keys.stored(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return dst, ErrNotFound
	}
	if err != nil {
		return dst, pebbleError(err)
	}
	dst = appendValue(dst, value)
	return dst, pebbleError(closer.Close())
}

// scan is Scan on the store or on one of its snapshots.
func (e *pebbleEngine) scan(from pebble.Reader, start []byte, n int, fn func(key, value []byte) bool) error {
	if !e.gate.enter() {
		return ErrClosed
	}
	defer e.gate.leave()
	if n == 0 {
		return nil
	}
	iter, err := from.NewIter(&pebble.IterOptions{LowerBound: e.keys.stored(start)})
	if err != nil {
		return pebbleError(err)
	}
	if err := e.keys.pebbleWalk(iter, n, fn); err != nil {
		iter.Close() // it returns the same error
		return pebbleError(err)
	}
	return pebbleError(iter.Close())
}

func (c *keyCoding) pebbleWalk(iter *pebble.Iterator, n int, fn func(key, value []byte) bool) error {
	for valid := iter.First(); valid; valid = iter.Next() {
		value, err := iter.ValueAndErr()
		if err != nil {
			return err
		}
		if n--; !fn(c.original(iter.Key()), value) || n == 0 {
			return nil
		}
	}
	return iter.Error()
}

// pebbleLogger drops pebble's informational messages.
type pebbleLogger struct{}

func (pebbleLogger) Infof(string, ...any)  {}
func (pebbleLogger) Errorf(string, ...any) {}

// Fatalf must not return. Pebble calls it on the caller's goroutine if a commit could not be
// logged; there it panics, and commit turns the panic into an error. Elsewhere pebble calls it if
// its state is broken, and then it ends the process.
func (pebbleLogger) Fatalf(format string, args ...any) {
	if strings.HasPrefix(format, "pebble: fatal commit error") && len(args) == 1 {
		if err, ok := args[0].(error); ok {
			panic(commitFailure{err})
		}
	}
	fmt.Fprintf(os.Stderr, "fatal error: pebble: "+format+"\n", args...)
	os.Exit(2) // as a panic would
}

// commitFailure is the panic value of a commit that could not be logged.
type commitFailure struct{ err error }

// commit runs a write that adds the given number of user bytes.
func (e *pebbleEngine) commit(user uint64, write func() error) error {
	e.writes.RLock()
	defer e.writes.RUnlock()
	return e.logged(user, write)
}

// logged is commit for a caller that holds writes. After a write that could not be logged, pebble
// accepts no more.
func (e *pebbleEngine) logged(user uint64, write func() error) (err error) {
	if e.failed.Load() {
		return ErrFailed
	}
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case commitFailure:
			e.failed.Store(true)
			err = &engineError{"pebble", ErrFailed, reason.err}
		default:
			panic(reason)
		}
	}()
	if err := write(); err != nil {
		return pebbleError(err)
	}
	e.user.Add(user)
	return nil
}
