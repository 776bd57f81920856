package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"nvkv/bench/ycsb"
	"nvkv/nvmap"
)

// These contestants are for comparison with nvmap's modes: the kernel's own mapping of the same
// file, and pread and pwrite of it, past the page cache where that is possible.
const (
	MmapContestant  = "mmap"
	PreadContestant = "pread"
)

// Transparent is nvmap.OpenPaged, named as if it were a mode of a map.
const Transparent = "transparent"

// These are the tests of a map, in order. Each thread has a part of the device.
const (
	mapSeqWrite = "sequential write" // whole pages, including making them durable
	mapSeqRead  = "sequential read"  // whole pages
	mapRandRead = "random read"      // 8 bytes of each page, each page once
	mapZipf     = "zipfian store"    // 64 bytes, including making them durable
)

var mapTests = []string{mapSeqWrite, mapSeqRead, mapRandRead, mapZipf}

// mapStoreBytes is the size of a zipfian store, and mapStores the number of them for each page.
const (
	mapStoreBytes = 64
	mapStores     = 4
)

// mapCacheShare is the ratio of the size of the device to that of the memory for it.
const mapCacheShare = 32

// mapBytesMin is the least size for which half of the memory suffices for the least bound on
// frames.
const mapBytesMin = 2 * mapCacheShare << 20

// MapPlan selects the maps to measure: the kernel's, and nvmap's in each mode and with each policy.
type MapPlan struct {
	Bytes    int64    // size of the device, a power of two
	Threads  []int    // numbers of threads, each measured
	Modes    []string // as nvmap.ModeNamed knows them, and Transparent
	Policies []string // as nvmap.NewPolicy knows them
	Delay    time.Duration
	Limit    time.Duration // of each test; 0 = none
}

// MapJob holds the instructions for a session that measures a map.
type MapJob struct {
	Bytes  int64         `json:"bytes"`
	Mode   string        `json:"mode"` // "" is the kernel's mapping
	Policy string        `json:"policy,omitempty"`
	Delay  time.Duration `json:"delay,omitempty"`
}

// Validate returns an error if the plan cannot be carried out.
func (p MapPlan) Validate() error {
	if p.Bytes < mapBytesMin || p.Bytes&(p.Bytes-1) != 0 {
		return fmt.Errorf("a device of %d bytes: want a power of two, and %d MiB or more", p.Bytes, mapBytesMin>>20)
	}
	for _, mode := range p.Modes {
		if mode == Transparent {
			if err := nvmap.PagedSupported(); err != nil {
				return err
			}
		} else if _, err := nvmap.ModeNamed(mode); err != nil {
			return err
		}
	}
	for _, policy := range p.Policies {
		if _, err := nvmap.NewPolicy(policy); err != nil {
			return err
		}
	}
	for _, threads := range p.Threads {
		if threads < 1 || int64(threads) > p.Bytes/nvmap.PageBytes {
			return fmt.Errorf("%d threads", threads)
		}
	}
	if p.Delay < 0 || p.Limit < 0 {
		return errors.New("a time below 0")
	}
	return nil
}

// Tasks returns a task for each contestant and number of threads.
func (p MapPlan) Tasks() []Task {
	var tasks []Task
	add := func(name string, threads int, job MapJob) {
		job.Bytes, job.Delay = p.Bytes, p.Delay
		tasks = append(tasks, Task{Name: name, Jobs: []Job{{Engine: name, Threads: threads, PhaseLimit: p.Limit, Map: &job}}})
	}
	for _, threads := range p.Threads {
		add(MmapContestant, threads, MapJob{})
		add(PreadContestant, threads, MapJob{Mode: PreadContestant})
		for _, mode := range p.Modes {
			if mode == nvmap.Direct.String() {
				add(mode, threads, MapJob{Mode: mode}) // these modes have no frames
				continue
			}
			for _, policy := range p.Policies {
				add(mode+" "+policy, threads, MapJob{Mode: mode, Policy: policy})
			}
		}
	}
	return tasks
}

// runMap measures one contestant.
func runMap(ctx context.Context, job *Job, emit func(event)) error {
	path := filepath.Join(job.Dir, "map")
	kind, err := layMap(path, job.Map.Bytes)
	if err != nil {
		return fmt.Errorf("making a device of %d bytes: %w", job.Map.Bytes, err)
	}
	target, note, err := openTarget(path, kind, job.Map)
	if err != nil {
		return err
	}
	defer target.close()
	b := &mapBench{ctx: ctx, job: job, emit: emit, target: target, note: note, pages: job.Map.Bytes / nvmap.PageBytes}
	for _, test := range mapTests {
		if err := b.run(test); err != nil {
			return fmt.Errorf("%s: %w", test, err)
		}
	}
	return nil
}

// layMap makes the file and fills it, so that every contestant finds allocated blocks. It returns
// the kind of device.
func layMap(path string, size int64) (kind string, err error) {
	dev, err := nvmap.OpenDevice(path, nvmap.OpenOptions{Create: true, MaxBytes: size})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, dev.Close(), forgetPages(path)) }()
	if err := dev.Grow(size); err != nil {
		return "", err
	}
	chunk := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(chunk)) {
		for at := 0; at < len(chunk); at += nvmap.PageBytes {
			binary.LittleEndian.PutUint64(chunk[at:], mapWord((off+int64(at))/nvmap.PageBytes, 0))
		}
		if err := dev.Write(nvmap.Off(off), chunk); err != nil {
			return "", err
		}
	}
	return dev.Info().Kind, dev.Fence()
}

// mapWord returns the first word of a page, with which reads are compared.
func mapWord(page int64, round uint64) uint64 { return uint64(page)<<8 | round }

// mapBench runs the tests on one contestant.
type mapBench struct {
	ctx    context.Context
	job    *Job
	emit   func(event)
	target mapTarget
	note   string
	pages  int64
	round  uint64 // round of the words that reads must find
	partly bool   // the time limit ended writing: some pages have words of the previous round
}

// mapWorker does n operations of a test, the i-th of which is op(i).
type mapWorker struct {
	from, to int64 // pages
	op       func(i int64) error
}

// run carries out one test with all threads, and reports it.
func (b *mapBench) run(test string) error {
	b.emit(event{Progress: &Progress{Engine: b.job.Engine, Step: test}})
	threads := max(b.job.Threads, 1)
	before := b.target.stats()
	load, start := startLoad(), time.Now()
	deadline := time.Time{}
	if b.job.PhaseLimit > 0 {
		deadline = start.Add(b.job.PhaseLimit)
	}
	if test == mapSeqWrite {
		b.round++
	}
	b.target.expect(test == mapRandRead || test == mapZipf)
	var wg sync.WaitGroup
	var ops atomic.Int64
	lat, errs := make([]latencies, threads), make([]error, threads)
	for t := range threads {
		wg.Go(func() {
			w := b.worker(test, int64(t)*b.pages/int64(threads), int64(t+1)*b.pages/int64(threads))
			var n int64
			n, errs[t] = w.run(b.ctx, deadline, &lat[t])
			ops.Add(n)
		})
	}
	wg.Wait()
	err := errors.Join(errs...)
	if err == nil && (test == mapSeqWrite || test == mapZipf) {
		err = b.target.sync()
	}
	if err != nil {
		return err
	}
	r := b.result(test, uint64(ops.Load()), time.Since(start), before)
	load.into(&r)
	for i := range lat[1:] {
		lat[0].merge(&lat[i+1])
	}
	lat[0].into(&r)
	r.Kinds = nil
	b.emit(event{Run: &r})
	b.partly = b.partly || r.Capped && test == mapSeqWrite
	return nil
}

func (b *mapBench) result(test string, ops uint64, took time.Duration, before nvmap.MapStats) Run {
	after := b.target.stats()
	size, wanted := uint64(nvmap.PageBytes), uint64(b.pages)
	switch test {
	case mapRandRead:
		size = 8
	case mapZipf:
		size, wanted = mapStoreBytes, wanted*mapStores
	}
	r := Run{
		Engine: b.job.Engine, Workload: test, Phase: "map", Threads: max(b.job.Threads, 1), ValueBytes: int(size),
		Records: uint64(b.pages), Ops: ops, Seconds: took.Seconds(), OpsPerS: float64(ops) / took.Seconds(),
		MediaBytes: after.WriteBytes + after.WriteBackBytes - before.WriteBytes - before.WriteBackBytes,
		Fences:     after.Fences - before.Fences, RSSAnonBytes: rssAnon(),
		CacheHits: after.Hits - before.Hits, CacheMisses: after.Misses - before.Misses,
		Capped: ops < wanted, Checked: ops, Note: b.note,
	}
	if b.job.Map != nil && b.job.Map.Mode == Transparent { // uses of pages that are present are not counted
		r.CacheHits = ops - min(ops, r.CacheMisses)
	}
	if test == mapSeqWrite || test == mapZipf {
		r.UserBytes, r.Checked = ops*size, 0
		r.WriteAmp = float64(r.MediaBytes) / float64(max(r.UserBytes, 1))
	} else {
		r.ReadBytes = ops * size
	}
	return r
}

// worker returns the operations of one thread on pages [from, to).
func (b *mapBench) worker(test string, from, to int64) mapWorker {
	page := make([]byte, nvmap.PageBytes)
	check := func(p int64) error {
		got, want := binary.LittleEndian.Uint64(page), mapWord(p, b.round)
		if got != want && !(b.partly && got == mapWord(p, b.round-1)) {
			return fmt.Errorf("page %d begins with %#x, and %#x was written", p, got, want)
		}
		return nil
	}
	w := mapWorker{from: from, to: to}
	switch test {
	case mapZipf:
		mix, r := permutation(b.pages), rand.New(rand.NewPCG(uint64(from), 1))
		w.from, w.to = mapStores*from, mapStores*to
		w.op = func(i int64) error {
			p := mix(min(int64(math.Exp(r.Float64()*math.Log(float64(b.pages)))), b.pages-1)) // exponent 1
			slot := 1 + r.Int64N(nvmap.PageBytes/mapStoreBytes-1)                             // slot 0 is compared
			binary.LittleEndian.PutUint64(page, uint64(i))
			return b.target.write(p*nvmap.PageBytes+slot*mapStoreBytes, page[:mapStoreBytes])
		}
	case mapSeqWrite:
		w.op = func(i int64) error {
			binary.LittleEndian.PutUint64(page, mapWord(i, b.round))
			return b.target.write(i*nvmap.PageBytes, page)
		}
	case mapSeqRead:
		w.op = func(i int64) error {
			if err := b.target.read(i*nvmap.PageBytes, page); err != nil {
				return err
			}
			return check(i)
		}
	case mapRandRead:
		mix := permutation(b.pages)
		w.op = func(i int64) error {
			p := mix(i)
			if err := b.target.read(p*nvmap.PageBytes, page[:8]); err != nil {
				return err
			}
			return check(p)
		}
	}
	return w
}

// permutation returns a pseudo-random bijection of [0, n). n is a power of two.
func permutation(n int64) func(int64) int64 {
	mask, shift := uint64(n-1), max(bits.Len64(uint64(n-1))/2, 1)
	return func(i int64) int64 {
		x := uint64(i)
		for range 2 {
			x ^= x >> shift
			x = x * 0x9e3779b97f4a7c15 & mask
		}
		return int64(x ^ x>>shift)
	}
}

const (
	mapClockEvery = 32  // one operation in mapClockEvery is timed singly
	mapStopEvery  = 256 // operations between checks of the time limit; a multiple of mapClockEvery
)

// run does the operations until they are done or the time is up.
func (w *mapWorker) run(ctx context.Context, deadline time.Time, lat *latencies) (done int64, err error) {
	for i := w.from; i < w.to; i++ {
		if done%mapStopEvery == 0 {
			if err := context.Cause(ctx); err != nil {
				return done, err
			}
			if !deadline.IsZero() && time.Now().After(deadline) {
				return done, nil
			}
		}
		if done%mapClockEvery == 0 {
			began := time.Now()
			err = w.op(i)
			lat.record(ycsb.Read, time.Since(began))
		} else {
			err = w.op(i)
		}
		if err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

// mapTarget is a contestant.
type mapTarget interface {
	write(off int64, p []byte) error
	read(off int64, p []byte) error
	sync() error
	expect(random bool) // tells the kernel which reads to expect
	stats() nvmap.MapStats
	close() error
}

// openTarget opens the contestant of a job under a bound on memory. It returns a note on the bound.
func openTarget(path, kind string, job *MapJob) (mapTarget, string, error) {
	memory := job.Bytes / mapCacheShare
	frames, note := memory, ""
	o := nvmap.OpenOptions{MaxBytes: job.Bytes}
	switch {
	case kind != "file": // the medium is memory, so there is no separate cache
		if job.Mode == "" {
			note = "not limited: the medium is memory, and no copy of it"
		}
	case job.Mode == PreadContestant:
		note = "no page cache"
	case job.Mode == Transparent:
		o.Kind = "block"
		note = "pages that are present, no page cache"
	case job.Mode == nvmap.Cached.String():
		o.Kind = "block" // without the page cache, so frames are all the memory
		note = "frames, no page cache"
	default:
		if job.Mode == nvmap.DirectProtect.String() {
			frames /= 2 // the page cache has the rest
		}
		note = fmt.Sprintf("page cache, limited to %s, of which the process and reading ahead need %s",
			Bytes(float64(memory+ownMemory)), Bytes(ownMemory))
		if err := limitMemory(memory + ownMemory); err != nil {
			note = fmt.Sprintf("page cache, NOT limited: %v", err)
		}
	}
	switch job.Mode {
	case "":
		t, err := openMmap(path, job.Bytes)
		return t, note, err
	case PreadContestant:
		t, direct, err := openPread(path)
		if !direct {
			note = "through the page cache, NOT limited"
		}
		return t, note, err
	}
	t, err := openNvmap(path, o, frames, job)
	if err != nil && o.Kind == "block" {
		o.Kind, note = "", fmt.Sprintf("through the page cache, NOT limited: %v", err)
		t, err = openNvmap(path, o, frames, job)
	}
	return t, note, err
}

// ownMemory is the memory that a session touches beside the device: buffers, histograms, page
// tables, and the kernel's read-ahead, 8 MiB at once on some disks. With less the kernel kills it.
const ownMemory = 16 << 20

// nvmapTarget is an nvmap.Map in one of its modes.
type nvmapTarget struct{ m *nvmap.Map }

func openNvmap(path string, o nvmap.OpenOptions, frames int64, job *MapJob) (mapTarget, error) {
	if job.Mode == Transparent {
		p, err := nvmap.OpenPaged(path, &nvmap.PagedOptions{Device: o, CacheBytes: frames, Policy: job.Policy})
		if err != nil {
			return nil, err
		}
		return pagedTarget{p, p.Bytes()}, nil
	}
	mode, err := nvmap.ModeNamed(job.Mode)
	if err != nil {
		return nil, err
	}
	if mode == nvmap.Direct {
		o.Protect = nvmap.ProtectNone
	}
	dev, err := nvmap.OpenDevice(path, o)
	if err != nil {
		return nil, err
	}
	mo := &nvmap.MapOptions{Mode: mode}
	if mode != nvmap.Direct {
		mo.CacheBytes = frames
		if mo.Policy, err = nvmap.NewPolicy(job.Policy); err != nil {
			return nil, errors.Join(err, dev.Close())
		}
	}
	m, err := nvmap.NewMap(dev, mo)
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	m.SetDelay(job.Delay)
	return nvmapTarget{m}, nil
}

func (t nvmapTarget) write(off int64, p []byte) error { return t.m.Store(nvmap.Off(off), p) }
func (t nvmapTarget) read(off int64, p []byte) error  { return t.m.Load(nvmap.Off(off), p) }
func (t nvmapTarget) sync() error                     { return t.m.Sync() }
func (t nvmapTarget) expect(random bool) {
	if view := t.m.Device().Mapping(); view != nil {
		adviseReads(view[:t.m.Size()], random)
	}
}

func (t nvmapTarget) stats() nvmap.MapStats { return t.m.Stats() }
func (t nvmapTarget) close() error          { return t.m.Close() }

// pagedTarget is a transparent map.
type pagedTarget struct {
	p *nvmap.Paged
	b []byte
}

func (t pagedTarget) write(off int64, p []byte) error {
	copy(t.b[off:], p)
	return nil
}

func (t pagedTarget) read(off int64, p []byte) error {
	copy(p, t.b[off:])
	return nil
}

func (t pagedTarget) sync() error { return t.p.Sync() }

func (t pagedTarget) expect(random bool) {
	advice := nvmap.AdviseNormal
	if random {
		advice = nvmap.AdviseRandom
	}
	_ = t.p.Advise(0, t.p.Size(), advice) // without it only time is lost
}

func (t pagedTarget) stats() nvmap.MapStats {
	s := t.p.Stats()
	return nvmap.MapStats{Misses: s.Reads, WriteBackBytes: s.WriteBacks * nvmap.PageBytes}
}

func (t pagedTarget) close() error { return t.p.Close() }
