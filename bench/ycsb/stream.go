package ycsb

import (
	"fmt"
	"math/rand/v2"
)

// Kind is the kind of an operation.
type Kind uint8

// These are the kinds of operations.
const (
	Read Kind = iota
	Update
	Insert
	Scan
	ReadModifyWrite
	Miss // a read of an absent key
	Delete
	Kinds
)

var kindNames = [Kinds]string{"read", "update", "insert", "scan", "rmw", "miss", "delete"}

func (k Kind) String() string { return kindNames[k] }

// Writes reports whether the kind stores a value.
func (k Kind) Writes() bool { return k == Update || k == Insert || k == ReadModifyWrite }

// Op is one operation. Its key lies in the stream's arena.
type Op struct {
	Record uint64
	Arg    uint32 // Scan: records to visit; Update, ReadModifyWrite: the field
	Own    uint32 // checked reads: 1 + this stream's latest write to the record, 0 = none
	Kind   Kind
	Check  bool // compare the value read with the writes
}

// Stream is the work of one thread in one phase, generated before any clock runs. It is immutable
// and lies outside the Go heap, so that it costs the garbage collector nothing.
type Stream struct {
	Workload *Workload
	Phase    int // from 1, unique within a store
	Thread   int // from 1
	Ops      []Op
	keys     []byte
	keyBytes int
	memory   []byte
}

// Key returns the key of operation i. It is valid until Close.
func (s *Stream) Key(i int) []byte {
	at := i * s.keyBytes
	n := int(s.keys[at])
	return s.keys[at+1 : at+1+n : at+1+n]
}

// Version returns the version that operation i writes.
func (s *Stream) Version(i int) Version { return MakeVersion(s.Phase, s.Thread, uint64(i)) }

// Bytes returns the memory of the stream, in bytes.
func (s *Stream) Bytes() int64 { return int64(len(s.memory)) }

// Spec gives a stream its place in a phase.
type Spec struct {
	Seed       uint64
	Phase      int    // number of the phase, from 1
	Thread     int    // from 1
	Threads    int    // number of streams of the phase
	FirstNew   uint64 // number of the first record that was not inserted yet
	CheckEvery int    // one read in CheckEvery is compared with the writes; 0 = none
	Ops        uint64 // operations of this stream
	Misses     bool   // reads use absent keys
}

// keySlot is the room for a length byte and the longest key: "user", 64
// digits of padding, and the '-' of a miss.
func (w *Workload) keySlot() int { return 1 + 4 + max(20, w.KeyDigits) + 1 }

func (w *Workload) newStream(sp Spec) (*Stream, error) {
	s := &Stream{Workload: w, Phase: sp.Phase, Thread: sp.Thread, keyBytes: w.keySlot()}
	if err := s.allocate(int(sp.Ops)); err != nil {
		return nil, fmt.Errorf("ycsb: room for %d operations: %w", sp.Ops, err)
	}
	return s, nil
}

func (s *Stream) setKey(i int, op Op) {
	slot := s.keys[i*s.keyBytes : (i+1)*s.keyBytes]
	key := s.Workload.AppendKey(slot[1:1], op.Record)
	if op.Kind == Miss {
		key = append(key, '-')
	}
	slot[0] = byte(len(key))
}

// LoadStream returns the inserts of one thread's share of the load phase:
// every Threads-th record, in the order of their numbers.
func (w *Workload) LoadStream(sp Spec) (*Stream, error) {
	return w.SweepStream(sp, Insert, w.InsertStart, w.InsertStart+w.InsertCount, 1)
}

// SweepStream returns one thread's share of doing the same to every step-th record of [first, end),
// in the order of their numbers. It ignores Spec.Ops.
func (w *Workload) SweepStream(sp Spec, kind Kind, first, end, step uint64) (*Stream, error) {
	mine := first + uint64(sp.Thread-1)*step
	stride := step * uint64(sp.Threads)
	sp.Ops = 0
	if mine < end {
		sp.Ops = (end - mine + stride - 1) / stride
	}
	s, err := w.newStream(sp)
	if err != nil {
		return nil, err
	}
	for i := range s.Ops {
		s.Ops[i] = Op{Kind: kind, Record: mine + uint64(i)*stride}
		s.setKey(i, s.Ops[i])
	}
	return s, nil
}

// RunStream returns one thread's operations of the run phase.
//
// A thread chooses among the records of the load phase and those that it has inserted itself, which
// certainly exist when the operation runs. Threads interleave their new record numbers from
// FirstNew on.
func (w *Workload) RunStream(sp Spec) (*Stream, error) {
	if w.InsertCount == 0 && w.Insert < w.Read+w.Update+w.Insert+w.Scan+w.ReadModifyWrite {
		return nil, fmt.Errorf("ycsb: no records are loaded (recordcount, insertcount): there is nothing to read or update")
	}
	s, err := w.newStream(sp)
	if err != nil {
		return nil, err
	}
	newGenerator(w, sp).fill(s)
	return s, nil
}

// generator chooses operations. It knows the last write of its own thread to each record.
type generator struct {
	w       *Workload
	sp      Spec
	rand    *rand.Rand
	choose  chooser
	lengths *zipf
	mixes   [5]float64 // upper bounds of Read, Update, Insert, Scan, ReadModifyWrite on [0, total)
	loaded  uint64
	fresh   uint64   // records this thread has inserted in this phase
	own     []uint32 // by index: 1 + op of this stream's latest write
	reads   int
}

func newGenerator(w *Workload, sp Spec) *generator {
	g := &generator{w: w, sp: sp, loaded: w.InsertCount, own: make([]uint32, w.InsertCount)}
	g.rand = rand.New(rand.NewPCG(sp.Seed, uint64(sp.Phase)<<32|uint64(sp.Thread)))
	var total float64
	for i, share := range []float64{w.Read, w.Update, w.Insert, w.Scan, w.ReadModifyWrite} {
		total += share
		g.mixes[i] = total
	}
	// As in YCSB, twice the number of expected inserts: the range of the scrambled chooser must not
	// be exceeded.
	grown := g.loaded + uint64(2*float64(sp.Ops)*w.Insert/total)
	g.choose = newChooser(w, g.loaded, grown)
	g.lengths = newZipf(uint64(w.MaxScanLength-w.MinScanLength+1), zipfTheta)
	return g
}

func (g *generator) fill(s *Stream) {
	for i := range s.Ops {
		op := Op{Kind: g.kind()}
		if op.Kind == Read && g.sp.Misses {
			op.Kind = Miss
		}
		index := g.index(op.Kind)
		op.Record = g.record(index)
		switch op.Kind {
		case Scan:
			op.Arg = g.scanLength()
		case Update, ReadModifyWrite:
			op.Arg = uint32(g.rand.IntN(g.w.Fields))
		}
		if op.Kind == Read || op.Kind == ReadModifyWrite {
			g.reads++
			op.Check = g.sp.CheckEvery > 0 && g.reads%g.sp.CheckEvery == 0
			op.Own = g.own[index]
		}
		if op.Kind.Writes() {
			g.own[index] = uint32(i + 1)
		}
		s.Ops[i] = op
		s.setKey(i, op)
	}
}

func (g *generator) kind() Kind {
	at := g.rand.Float64() * g.mixes[len(g.mixes)-1]
	for k, bound := range g.mixes {
		if at < bound {
			return Kind(k)
		}
	}
	return Read
}

// index returns a position among the records that this thread may use: those of the load phase,
// then its own new ones.
func (g *generator) index(k Kind) uint64 {
	n := g.loaded + g.fresh
	if k == Insert || n == 0 {
		g.fresh++
		g.own = append(g.own, 0)
		return n
	}
	return g.choose.next(g.rand, n)
}

func (g *generator) record(index uint64) uint64 {
	if index < g.loaded {
		return g.w.InsertStart + index
	}
	return g.sp.FirstNew + (index-g.loaded)*uint64(g.sp.Threads) + uint64(g.sp.Thread-1)
}

func (g *generator) scanLength() uint32 {
	span := g.w.MaxScanLength - g.w.MinScanLength + 1
	if g.w.ScanLengths == Zipfian {
		return uint32(g.w.MinScanLength) + uint32(g.lengths.next(g.rand))
	}
	return uint32(g.w.MinScanLength + g.rand.IntN(span))
}
