package protocol

// Rule is a part of the protocol that can be left out.
type Rule uint32

const (
	R1        Rule = 1 << iota // a transaction has one record per key
	R2                         // records of a group stay until the next group is fenced
	R4                         // each opening is a run, and records how far the last one counts
	R5                         // marks are renewed after a freeze
	R6                         // a tombstone stays until a checkpoint has flipped
	R6Again                    // so does a tombstone that a recovery found
	R7                         // an expired record stays until a checkpoint has flipped
	R8                         // a flip frees the slots listed at its freeze
	R9                         // a freeze does not free them
	R12                        // recovery writes again the bytes that it relies on
	I2                         // a commit ends with a fence
	I3                         // a commit is visible after its fence, not before
	I4                         // a checkpoint overwrites nothing that the last one names
	I8                         // a record moves under a new number
	I11                        // a group counts with its closing record
	I12                        // a range deletes older records, and only those
	I9                         // a snapshot keeps the records that it can see
	L1                         // a mark that a lane has not fenced is relied on by no other
	L2                         // a mark is fenced before a lane's first record under it is written
	L3                         // recovery writes again all that counts, not only the highest
	L4                         // a number is drawn while the leaf is latched
	L5                         // several records are written only while no lane is busy
	L6                         // freezes and snapshots are taken only while no lane is busy
	L7                         // the latch on a leaf is held from the search until the record is shown
	L8                         // a leaf is split only while no lane is busy
	L9                         // a commit that has stored its record is not refused
	L10                        // a lane moves the record that it finds under the latch
	L11                        // an opening relies on no mark that an earlier one has written
	L12                        // a number says that the lower ones are fenced only if no other lane is busy
	FlipFence                  // the tree is fenced before the superblock that names it is written
	Reuse                      // a slot is free after the fence of its successor, not before
)

var ruleNames = []string{"R1", "R2", "R4", "R5", "R6", "R6Again", "R7", "R8", "R9", "R12", "I2", "I3", "I4", "I8", "I11", "I12", "I9", "L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8", "L9", "L10", "L11", "L12", "FlipFence", "Reuse"}

// String names a single rule.
func (r Rule) String() string {
	for i, name := range ruleNames {
		if r == 1<<i {
			return name
		}
	}
	return "rules"
}
