package kv

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"nvkv/alloc"
	"nvkv/nvmap"
)

// DB is an open store. It is safe for concurrent use.
//
// Lock order: checkpointing, turn, publish. Point reads take none of them.
type DB struct {
	opt  Options
	path string
	m    *nvmap.Map
	r    *alloc.Region // under the turn; Describe is free
	seed uint64
	ix   index // changed under the turn and publish

	turn    turn
	publish sync.Mutex    // guards what becomes visible: the index, holders, visible, keys
	showing atomic.Uint64 // odd while several records become visible one by one

	// Under the turn.
	run             uint32
	counter         uint64
	way             path  // where the commit under way leads
	tombs           []ref // tombstones since the last freeze, and slots held by I5
	replacedRecords []ref
	groupEntries    []entry
	sinceCheckpoint int64  // bytes of records written since the last freeze
	frozenLast      number // newest transaction that a checkpoint may contain
	counts          counts
	sweep           sweep
	group           group
	ending          bool // nothing is written any more: Close takes the last checkpoint

	// Under publish.
	holders    holders
	visible    number // newest transaction that readers see
	dirtySince bool   // something was published since the epoch began
	keys       int64

	checkpoints checkpoints
	behind      atomic.Bool             // writers wait for a checkpoint
	late        chan struct{}           // closed when openLate or replayLate is through; nil if neither was needed
	interim     atomic.Pointer[interim] // answers point reads until then; nil when all calls may come in
	evac        evacuator
	recovered   recovered
	// flippedInterval began with the freeze of the last checkpoint that flipped.
	flippedInterval atomic.Uint64

	failure   atomic.Pointer[error]
	closed    atomic.Bool
	closing   sync.Mutex
	done      bool // closing is through; guarded by closing
	pages     sections
	calls     stripes
	inside    *stripe // section of whoever holds the turn; guarded by it
	evictor   evictor
	backing   sync.Mutex   // held while index pages are written back: no two writes of one meet. Taken after publish
	early     int64        // pages and blocks written before their checkpoint; under the turn
	dirtyLeft atomic.Int64 // frames that the last checkpoint left dirty
	txs       txs

	raceLock // in race builds, readers and the writer exclude each other
}

// Open opens the store at path and creates it if there is none. One process
// may write a store, or several read it; otherwise the error is ErrLocked.
//
// After a crash Open returns when it is known what every key is worth: Get, Has
// and GetAppend answer, and other calls wait until all that was found is in the
// index. If that fails, then or later, every call returns why.
func Open(path string, opts *Options) (*DB, error) {
	o := opts.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if path == "" && o.Device != "mem" {
		return nil, errors.New("nvkv: open: the path is empty")
	}
	dev, err := nvmap.OpenDevice(path, nvmap.OpenOptions{Kind: o.Device, ReadOnly: o.ReadOnly, Create: !o.ReadOnly, MaxBytes: o.MaxBytes})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db, err := OpenDevice(dev, opts)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.path = path
	return db, nil
}

// OpenDevice is Open on a device of the caller's: one wrapped for a test, or of
// a kind of its own. The store owns the device from here, also on failure.
func OpenDevice(dev nvmap.Device, opts *Options) (*DB, error) {
	o := opts.withDefaults()
	if err := o.validate(); err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	db := &DB{opt: o, evictor: newEvictor(), holders: holders{broken: o.broken}}
	for _, set := range []*stripes{&db.pages.in[0], &db.pages.in[1]} {
		for i := range set {
			set[i].of(&db.raceLock)
		}
	}
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
		return nil, errors.Join(err, m.Close())
	}
	return db, nil
}

// protect turns write protection on or off, where Options say so: a device
// comes with the best it has.
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
		return nil // there is none, or nothing can be written anyway
	}
	return err
}

func (db *DB) open() (err error) {
	defer db.guarded("open", panicOnFault(true), &err)
	began := time.Now()
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
		db.r, err = alloc.OpenUnread(db.m, db.opt.broken.alloc())
	}
	if err != nil {
		return err
	}
	db.r.SetReadOnly(db.opt.ReadOnly)
	db.seed = db.r.ID().Seed()
	db.ix = index{
		m: db.m, r: db.r, sections: &db.pages, mapped: db.m.Device().Mapping() != nil,
		retire: db.retirePage, room: db.readRoom, inPlace: db.off(ruleI4),
	}
	if err := db.recover(); err != nil {
		return err
	}
	db.recovered.took = time.Since(began)
	return nil
}

// start begins what goes on in the background.
func (db *DB) start() {
	db.startEvictor()
	if !db.opt.ReadOnly {
		db.startCheckpointer()
		db.startEvacuator()
	}
}

func (db *DB) retirePage(o nvmap.Off, birth uint64) {
	db.r.ClearLive(o)
	db.holders.retirePage(o, birth)
}

// enter begins a section, in which index pages may be read; the caller calls
// leave when it is through.
func (db *DB) enter() (*stripe, error) {
	s := db.pages.begin()
	if db.closed.Load() {
		s.leave()
		return nil, ErrClosed
	}
	return s, nil
}

// enterCall counts a call in that may wait for others, and that reads index
// pages only in sections of its own; the caller calls leave when it is through.
// Close waits for both kinds. A call waits here for a replay under way.
func (db *DB) enterCall() (*call, error) {
	c, err := db.callIn()
	if err == nil {
		if err = db.replayed(); err != nil {
			c.leave()
			return nil, err
		}
	}
	return c, err
}

// callIn is enterCall for what a replay does as well.
func (db *DB) callIn() (*call, error) {
	c := (*call)(db.calls.pick())
	c.n.Add(1)
	if db.closed.Load() {
		c.leave()
		return nil, ErrClosed
	}
	return c, nil
}

// call is a stripe of calls that are no sections.
type call stripe

func (c *call) leave() { c.n.Add(-1) }

// guarded turns faults on mapped memory into errors while a call runs, as
//
//	defer db.guarded("get", panicOnFault(true), &err)
//
// An access to a poisoned line or behind the end of a cut file is ErrMediaFault
// with the offset. Anything else goes on panicking.
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

// Get returns a copy of the value of key, or ErrNotFound.
func (db *DB) Get(key []byte) ([]byte, error) { return db.GetAppend(nil, key) }

// GetAppend appends the value of key to dst and returns the result. It does not
// allocate when dst has room and the device is mapped. On error it returns dst as
// it was.
func (db *DB) GetAppend(dst, key []byte) ([]byte, error) {
	out, err := db.getOnce(dst, key, true)
	if err == errRegister {
		return db.getRegistered(dst, key, true)
	}
	return out, err
}

// getOnce reads without a snapshot; errRegister where that does not do.
func (db *DB) getOnce(dst, key []byte, want bool) (out []byte, err error) {
	s, err := db.enter()
	if err != nil {
		return dst, err
	}
	defer s.leaveGet()
	defer db.guarded("get", panicOnFault(true), &err)
	if e := db.interim.Load(); e != nil {
		return e.get(dst, key, want)
	}
	return db.get(dst, key, want)
}

// Has says whether key is there.
func (db *DB) Has(key []byte) (bool, error) {
	_, err := db.getOnce(nil, key, false)
	if err == errRegister {
		_, err = db.getRegistered(nil, key, false)
	}
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Put stores a value. When it returns nil the record is durable.
func (db *DB) Put(key, value []byte) error {
	if err := checkSizes(len(key), len(value)); err != nil {
		return err
	}
	return db.single(kindPut, key, value, 0)
}

// Delete removes a key; it need not be there.
func (db *DB) Delete(key []byte) error {
	if len(key) > MaxKeyBytes {
		return db.writable() // such a key cannot be there
	}
	return db.single(kindDelete, key, nil, 0)
}

func (db *DB) single(kind byte, key, value []byte, expiry int64) error {
	o := getOp()
	defer putOp(o)
	o.buf = appendImage(o.buf[:0], key, value)
	o.one[0] = entry{kind: kind, image: o.buf, key: o.buf[maxRecHeader : maxRecHeader+len(key)], expiry: expiry}
	o.entries = append(o.entries[:0], o.one[0])
	return db.write(o)
}

// Write makes all operations of a batch durable and visible at one instant, in
// order. An empty batch is nil without a fence.
func (db *DB) Write(b *Batch) error {
	if b.ranges > 0 {
		return db.Update(func(tx *Tx) error { return b.replayInto(tx) })
	}
	o := getOp()
	defer putOp(o)
	es, err := b.entries(o.entries[:0])
	if err != nil {
		return err
	}
	o.entries = es
	if len(es) == 0 {
		return db.writable()
	}
	return db.write(o)
}

// write commits an op.
func (db *DB) write(o *op) error {
	s, err := db.enterWriter()
	if err != nil {
		return err
	}
	defer s.leave()
	for i := range o.entries {
		db.prepare(&o.entries[i])
	}
	err = db.submit(o)
	if db.madeRoom(err) {
		o.lead, o.err = false, nil
		o.group = o.group[:0]
		err = db.submit(o)
	}
	return err
}

// enterWriter is enterCall for what commits: it waits for a checkpoint where
// writers are too far ahead of one (R11).
func (db *DB) enterWriter() (*call, error) {
	s, err := db.enterCall()
	if err != nil {
		return nil, err
	}
	err = db.mayWait()
	if err == nil && db.behind.Load() {
		err = db.checkpoint(context.Background())
	}
	if err != nil {
		s.leave()
		return nil, err
	}
	return s, nil
}

// madeRoom says whether a commit that ended with err is worth another try: the
// store was full, and by a checkpoint, which frees what deletes left, and by
// emptying slabs there is room now.
func (db *DB) madeRoom(err error) bool {
	return errors.Is(err, ErrFull) && !errors.Is(err, ErrFailed) && db.squeeze(context.Background()) == nil
}

// Info describes the device beneath.
func (db *DB) Info() nvmap.Info { return db.m.Device().Info() }

// Path returns what Open was given.
func (db *DB) Path() string { return db.path }

// Close takes a checkpoint and closes the store. Calls that run finish, new
// ones fail with ErrClosed. Transactions that are still open do not hold it up:
// their methods fail from now on, and slices that they gave out stay readable
// until they are rolled back. A second Close returns nil.
func (db *DB) Close() error {
	db.closed.Store(true)
	db.closing.Lock()
	defer db.closing.Unlock()
	if db.done {
		return nil
	}
	db.done = true
	db.revokeWriter() // others that wait for its turn are calls that run
	db.calls.drained()
	db.pages.wait()
	if db.late != nil {
		<-db.late
	}
	db.stopCheckpointer()
	db.ending = true
	var err error
	if !db.opt.ReadOnly && db.failure.Load() == nil {
		db.reclaimRest()
		if err = db.checkpointIfWritten(); err == nil {
			err = db.shrink()
		}
	}
	return errors.Join(err, db.txs.lastOut(db.m))
}
