package kv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"nvkv/alloc"
	"nvkv/internal/socket"
	"nvkv/kv/internal/btree"
	"nvkv/kv/internal/locks"
	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// DB is an open store. It is safe for concurrent use. Its methods return ErrClosed after Close; those
// that return no error then return the zero value, Info and Path what they returned before.
type DB struct {
	// Point reads take no lock. Package kv/internal/locks has the order in which a goroutine may
	// take the locks, and a debug build checks it. docs/design.md says what waits under each.

	// Set while the store is opened, recovered until the replay has ended, and constant afterwards.
	opt       Options
	path      string
	m         *nvmap.Map
	seed      uint64
	recovered recovered
	serving   *serving // the socket; nil without Options.Socket
	timing    *timing  // nil: no latencies are recorded
	events    events
	late      chan struct{} // closed when openLate or replayLate has ended; nil without either

	// The locks of the DB itself. Writers take the turn; the structs below have locks of their own.
	closing locks.Mutex[locks.AtClosing] // Close runs once
	turn    turn
	races   btree.RaceLock               // in race builds, separates readers from the writer
	publish locks.Mutex[locks.AtPublish] // what readers can see changes
	backing locks.Mutex[locks.AtBacking] // index pages are written back, each by one goroutine

	// closing guards done.
	done bool // Close has run

	// The turn guards these.
	r               *alloc.Region // the methods of Region say which of them need no lock
	run             uint32
	counter         uint64
	way             btree.Path     // to the key of the commit under way
	spots           spots          // of the keys of the commit under way
	inside          *btree.Section // of the goroutine with the turn
	tombs           []btree.Ref    // tombstones since the last freeze, and slots held by I5
	replacedRecords []btree.Ref
	beside          building
	groupEntries    []entry
	sinceCheckpoint int64         // bytes of records written since the last freeze
	frozenLast      record.Number // newest transaction that the last freeze contains
	counts          counts
	sweep           sweep
	group           group
	needed          needed
	early           int64 // pages and blocks written before their checkpoint
	ending          bool  // only the last checkpoint, of Close, is still written

	// publish guards these, so that no snapshot sees half a change. What a commit changes it changes
	// under the turn too: with the turn alone it may be read, and a build beside the published tree
	// (beside.go) changes ix and keys.
	ix         btree.Index
	holders    holders
	visible    record.Number // newest transaction that readers see
	dirtySince bool          // something was published since the epoch began
	keys       int64         // see keysShown
	space      Space         // at the last count

	// Each of these has its own guards, which its type names.
	checkpoints checkpoints
	evac        evacuator
	evictor     evictor
	txs         txs
	traced      traced
	called      callbacks // of calls that Close would wait for
	logging     callbacks // the part of these that is Options.Logger
	pages       btree.Sections
	hash        hashed
	calls       btree.Stripes

	// Any goroutine may read and set these at any time.
	showing         atomic.Uint64           // odd while several records become visible one by one
	interim         atomic.Pointer[interim] // answers point reads during a replay; then nil
	behind          atomic.Bool             // writers must wait for a checkpoint
	flippedInterval atomic.Uint64           // began with the freeze of the last checkpoint that flipped
	dirtyLeft       atomic.Int64            // frames that the last checkpoint left dirty
	failure         atomic.Pointer[error]   // why the store refuses writes; nil if it does not
	torn            atomic.Bool             // a commit is published in part, so reads fail too
	closed          closedFlag
}

// Open opens the store at path, and creates it if there is none. Either one process may have a
// store open for writing, or several for reading; otherwise the error is ErrLocked, after
// Options.LockTimeout. With Options.ReadOnly nothing is created.
//
// After a crash Open returns when the recovery has decided which records count. Get, Has and
// GetAppend answer at once; other calls wait until all records are in the index. If that fails,
// every call returns the error.
func Open(path string, opts *Options) (*DB, error) {
	o := opts.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if path == "" && o.Device != "mem" {
		return nil, errors.New("nvkv: open: the path is empty")
	}
	if err := socket.CheckPath(socketPath(o.Socket, path)); err != nil {
		return nil, fmt.Errorf("nvkv: option Socket: %w", err)
	}
	_, err := os.Stat(path)
	absent := errors.Is(err, os.ErrNotExist)
	dev, err := nvmap.OpenDevice(path, nvmap.OpenOptions{Kind: o.Device, ReadOnly: o.ReadOnly, Create: !o.ReadOnly, FileMode: o.FileMode, LockTimeout: o.LockTimeout, MaxBytes: o.MaxBytes})
	if err != nil {
		return nil, err // the error has the path
	}
	o.path = path
	if absent {
		o.inVain = func() { removeEmpty(path) }
	}
	db, err := OpenDevice(dev, &o)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}

// removeEmpty removes a new file in which no store could be made, for example because the medium is
// full. The caller holds its lock.
func removeEmpty(path string) {
	if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Size() == 0 {
		os.Remove(path) // the caller reports the first error
	}
}

// OpenDevice is Open on a device of the caller: one that wraps another for a test, or one of a new
// kind. The store owns the device from here on, even if OpenDevice fails: then it has closed the
// device.
func OpenDevice(dev nvmap.Device, opts *Options) (*DB, error) {
	if dev == nil {
		return nil, errNil
	}
	o := opts.withDefaults()
	if err := o.validate(); err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	db := &DB{opt: o, path: o.path, evictor: newEvictor(), holders: holders{broken: o.broken}, timing: newTiming(o.TimeOneIn), events: newEvents()}
	db.opt.Logger = slog.New(logHandler{o.Logger.Handler(), db})
	db.closed.Store(false)
	db.pages.Guard(&db.races)
	db.hash.index.Init()
	mo, err := db.mapOptions()
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	m, err := nvmap.NewMap(dev, mo)
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	db.m = m
	err = db.protect()
	if err == nil {
		err = db.open()
	}
	if err != nil {
		db.stopCheckpointer()
		if db.opt.inVain != nil {
			db.opt.inVain()
		}
		return nil, errors.Join(err, m.Close())
	}
	if err := db.listen(o.path); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if db.late == nil {
		db.logOpening("", nil)
	}
	return db, nil
}

// protect turns write protection on or off if Options say so. Otherwise a device has the best
// protection that it can.
func (db *DB) protect() error {
	want := db.opt.WriteProtect
	if want == nil {
		return nil
	}
	if *want {
		return db.m.SetProtection(nvmap.ProtectBest)
	}
	err := db.m.SetProtection(nvmap.ProtectNone)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, nvmap.ErrReadOnly) {
		return nil // there is none, or the device is read-only
	}
	return err
}

func (db *DB) open() (err error) {
	defer db.guarded("open", panicOnFault(true), &err)
	db.recovered.began = time.Now()
	absent, err := alloc.Absent(db.m)
	if err != nil {
		return err
	}
	if absent {
		if db.opt.ReadOnly {
			return fmt.Errorf("%w: it is empty, and may not be created read-only", ErrNotStore)
		}
		first := state{epoch: 0, interval: 1}
		if err := alloc.Format(db.m, alloc.Options{SlabBytes: db.opt.SlabBytes, Payload: first.encode(), Unfinished: db.opt.unfinished}); err != nil {
			return err
		}
	} else if db.opt.unfinished {
		return errStoreThere
	}
	if db.opt.unfinished {
		db.r, err = alloc.OpenUnfinished(db.m)
	} else {
		db.r, err = openUnread(db.m, db.opt.broken)
	}
	if err != nil {
		return err
	}
	db.r.SetReadOnly(db.opt.ReadOnly)
	db.r.SetBound(db.opt.MaxBytes)
	db.seed = db.r.ID().Seed()
	db.ix.Init(db.m, db.r, btree.Options{
		Sections: &db.pages, Room: db.readRoom, Account: db.account, InPlace: db.off(ruleI4),
		Retire: func(o nvmap.Off, birth uint64) { db.retirePage(o, birth, db.holders.newest) },
	})
	if err := db.recover(); err != nil {
		return err
	}
	db.recovered.took = time.Since(db.recovered.began)
	return nil
}

// lockReaders excludes readers in race builds.
func (db *DB) lockReaders() {
	locks.Await(locks.Races)
	db.races.LockReaders()
	locks.Took(locks.Races)
}

func (db *DB) unlockReaders() {
	locks.Gave(locks.Races)
	db.races.UnlockReaders()
}

// start starts the background goroutines.
func (db *DB) start() {
	db.startHash()
	db.startEvictor()
	if !db.opt.ReadOnly {
		db.startCheckpointer()
		db.startEvacuator()
	}
}

// retirePage frees a page or block that left the tree as soon as no holder sees it. newest is the
// newest holder that may see it.
func (db *DB) retirePage(o nvmap.Off, birth uint64, newest *holder) {
	db.account(db.r.ClearLive(o))
	db.holders.deadPage(newest, deadPage{o, birth, db.slotBytes(o)})
}

// guarded turns faults on mapped memory into errors while a call runs:
//
//	defer db.guarded("get", panicOnFault(true), &err)
//
// An access to a line with a media error, or behind the end of a cut file, is ErrMediaFault with
// the offset. Any other panic continues.
func (db *DB) guarded(op string, old bool, err *error) {
	panicOnFault(old)
	if r := recover(); r != nil {
		fault := db.fault(r, op)
		if fault == nil {
			panic(r)
		}
		*err = fault
	}
}

// Get returns a copy of the value of key, or ErrNotFound. The copy is never nil, and belongs to the
// caller. A key that is longer than MaxKeyBytes is absent.
func (db *DB) Get(key []byte) ([]byte, error) { return db.GetAppend(nil, key) }

// GetAppend appends the value of key to dst and returns the result. It does not allocate if dst has
// room and the device is mapped. After an error it returns dst unchanged.
func (db *DB) GetAppend(dst, key []byte) ([]byte, error) {
	return db.getTimed(dst, key, true)
}

// getOnce reads without a snapshot. It returns errRegister if that is not possible.
func (db *DB) getOnce(dst, key []byte, want bool) (out []byte, err error) {
	s, err := db.enter()
	if err != nil {
		return dst, err
	}
	defer s.LeaveGet()
	defer db.guarded("get", panicOnFault(true), &err)
	if e := db.interim.Load(); e != nil {
		return e.get(dst, key, want)
	}
	return db.get(dst, key, want)
}

// Has says whether key exists. It reads no value that lies in runs.
func (db *DB) Has(key []byte) (bool, error) {
	_, err := db.getTimed(nil, key, false)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Put stores a value. When it returns nil the record is durable (see Options.Durability). It keeps
// neither slice.
func (db *DB) Put(key, value []byte) error {
	if err := checkSizes(len(key), len(value)); err != nil {
		return err
	}
	return db.single(record.KindPut, key, value, 0)
}

// Delete removes a key. The key may be absent; then nothing is written.
func (db *DB) Delete(key []byte) error {
	if len(key) > MaxKeyBytes {
		return db.writable() // no key is that long
	}
	return db.single(record.KindDelete, key, nil, 0)
}

// lentFrom is the length in bytes from which a value is written from the caller's memory, without a
// copy of the whole value first.
const lentFrom = 1 << 20

func (db *DB) single(kind byte, key, value []byte, expiry int64) error {
	o := getOp()
	defer putOp(o)
	o.single(kind, key, value, expiry)
	return db.write(o)
}

// single makes o an operation of one entry.
func (o *op) single(kind byte, key, value []byte, expiry int64) {
	var lent []byte
	if len(value) >= lentFrom {
		value, lent = nil, value
	}
	o.buf = appendImage(o.buf[:0], key, value)
	if o.entries == nil {
		o.entries = make([]entry, 1)
	}
	o.entries = o.entries[:1]
	e := &o.entries[0]
	*e = entry{}
	e.kind, e.image, e.key = kind, o.buf, o.buf[record.MaxHeaderBytes:record.MaxHeaderBytes+len(key)]
	e.lent, e.expiry = lent, expiry
}

// Write makes all operations of a batch durable and visible at one instant, in order. An empty
// batch, or nil, costs no fence.
func (db *DB) Write(b *Batch) error {
	if b.Len() == 0 {
		return db.writable()
	}
	if b.ranges > 0 {
		return db.Update(func(tx *Tx) error { return b.replayInto(tx) })
	}
	o := getOp()
	defer putOp(o)
	es, err := b.entries(o.entries[:0], db.now())
	if err != nil {
		return err
	}
	o.entries = es
	if len(es) == 0 {
		return db.writable()
	}
	return db.write(o)
}

// writeOp commits an op.
func (db *DB) writeOp(o *op) error {
	s, err := db.enterWriter()
	if err != nil {
		return err
	}
	defer s.leave()
	for i := range o.entries {
		if err := db.prepare(&o.entries[i]); err != nil {
			return err
		}
	}
	err = db.submit(o)
	for try := 0; db.madeRoom(err, o.entries, try, &pace{}); try++ {
		o.lead, o.err = false, nil
		o.group = o.group[:0]
		err = db.submit(o)
	}
	return err
}

// madeRoom says whether a commit that failed with err should be tried again, after this many tries.
// If the store was full it makes room first: for commits that give space back by a checkpoint,
// which restores the kept room; for others, and if that was not enough, it also empties slabs.
func (db *DB) madeRoom(err error, es []entry, tries int, p *pace) bool {
	if !full(err) {
		return false
	}
	back := givesBack(es)
	switch {
	case back && tries == 0:
		if db.checkpoint(context.Background()) == nil {
			return true
		}
	case back && tries == 1 || tries == 0:
		if db.squeeze(context.Background(), p, wantedBy(es)) == nil {
			return true
		}
	}
	db.refusedFull()
	return false
}

// Info describes the device: its kind and size, and what a fence is worth there.
func (db *DB) Info() nvmap.Info {
	if db.m == nil {
		return nvmap.Info{}
	}
	return db.m.Device().Info()
}

// Path returns the path that was passed to Open, "" after OpenDevice.
func (db *DB) Path() string { return db.path }

// Close takes a checkpoint and closes the store. It waits for calls under way; new calls fail with
// ErrClosed. It does not wait for open transactions: their methods fail from now on, a writable one
// is rolled back, and slices that they returned stay readable until they end. A second Close
// returns nil. In a callback of a call for which it would wait (of Check, of Options.Progress in
// Compact, of Options.Logger) it does nothing and returns ErrNested.
func (db *DB) Close() error {
	if db.called.here() {
		return ErrNested
	}
	db.closed.Store(true)
	db.closing.Lock()
	defer db.closing.Unlock()
	if db.done || db.m == nil {
		return nil
	}
	db.done = true
	err := db.stopServing()
	db.revokeWriter() // others that wait for its turn are calls under way
	db.calls.Drained()
	db.pages.Wait()
	if db.late != nil {
		<-db.late
	}
	db.stopCheckpointer()
	db.ending = true
	if !db.opt.ReadOnly && db.failure.Load() == nil {
		db.reclaimRest()
		e := db.checkpointIfWritten()
		if e == nil {
			e = db.shrink()
		}
		err = errors.Join(err, e)
	}
	return errors.Join(err, db.txs.lastOut(db.m))
}
