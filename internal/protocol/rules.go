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
	FlipFence                  // the tree is fenced before the superblock that names it is written
	Reuse                      // a slot is free after the fence of its successor, not before
)

var ruleNames = []string{"R1", "R2", "R4", "R5", "R6", "R6Again", "R7", "R8", "R9", "R12", "I2", "I3", "I4", "I8", "I11", "I12", "FlipFence", "Reuse"}

// String names a single rule.
func (r Rule) String() string {
	for i, name := range ruleNames {
		if r == 1<<i {
			return name
		}
	}
	return "rules"
}
