package record

import "encoding/binary"

// Number orders transactions: the run in the high 30 bits, the counter within
// it in the low 34. 0 is no transaction.
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

// NearRun says whether n, one byte of which may be wrong, may be of a run.
func (n Number) NearRun(run uint32) bool {
	x := (n ^ MakeNumber(run, 0)) &^ MaxCounter
	for at := CounterBits / 8 * 8; at < 64; at += 8 {
		if x&^(0xff<<at) == 0 {
			return true
		}
	}
	return false
}

// NumberOf returns the number of the record at the beginning of b, parsed or not.
func NumberOf(b []byte) Number { return Number(binary.LittleEndian.Uint64(b[recNumber:])) }
