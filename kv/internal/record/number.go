package record

import "encoding/binary"

// Number orders transactions. The high 30 bits are the run, the low 34 the counter within the run.
// 0 is no transaction.
type Number uint64

const (
	CounterBits = 34
	MaxCounter  = 1<<CounterBits - 1
	MaxRun      = 1<<(64-CounterBits) - 1
)

func MakeNumber(run uint32, counter uint64) Number {
	return Number(run)<<CounterBits | Number(counter)
}

func (n Number) Run() uint32     { return uint32(n >> CounterBits) }
func (n Number) Counter() uint64 { return uint64(n) & MaxCounter }

// NearRun says whether n is a number of this run, if at most one byte of n is wrong.
func (n Number) NearRun(run uint32) bool {
	x := (n ^ MakeNumber(run, 0)) &^ MaxCounter
	for at := CounterBits / 8 * 8; at < 64; at += 8 {
		if x&^(0xff<<at) == 0 {
			return true
		}
	}
	return false
}

// NumberOf returns the number field of the record at the beginning of b. It checks nothing.
func NumberOf(b []byte) Number { return Number(binary.LittleEndian.Uint64(b[recNumber:])) }
