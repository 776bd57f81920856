// Package locks knows the locks of a DB and the order in which a goroutine may take them.
//
// The owner of a lock may wait for a lock of a higher rank only. A debug build (tag nvkvdebug)
// notes which locks each goroutine has, and panics where one breaks this rule, also if nobody
// waits at that moment. In other builds a [Mutex] is a sync.Mutex and the functions do nothing.
//
// Two of the ranks are no mutexes. The turn may pass from one goroutine to another. A section is a
// stretch of code that reads index pages: many goroutines are in one at a time, and in race builds
// each of them has the race lock for reading.
package locks

// Rank is a place in the order.
type Rank int

// These are the ranks, from the outside in. docs/design.md has a table of what each guards and of
// the waits that happen under it.
const (
	Closing    Rank = iota + 1 // DB.closing
	Writing                    // writing.mu, of a writable Tx
	Checkpoint                 // checkpoints.mu
	Turn                       // the turn, taken
	Races                      // btree.RaceLock, for writing
	Section                    // a section of btree.Sections
	Publish                    // DB.publish
	Backing                    // DB.backing
	Lending                    // Tx.lending
	Inner                      // any mutex whose owner waits for nothing
)

func (r Rank) String() string {
	return [...]string{"no lock", "closing", "writing.mu", "checkpoints.mu", "the turn", "the race lock", "a section", "publish", "backing", "lending", "an inner mutex"}[r]
}

// The types below name the ranks of mutexes.
type (
	AtClosing    struct{}
	AtWriting    struct{}
	AtCheckpoint struct{}
	AtPublish    struct{}
	AtBacking    struct{}
	AtLending    struct{}
	AtInner      struct{}
)

func (AtClosing) rank() Rank    { return Closing }
func (AtWriting) rank() Rank    { return Writing }
func (AtCheckpoint) rank() Rank { return Checkpoint }
func (AtPublish) rank() Rank    { return Publish }
func (AtBacking) rank() Rank    { return Backing }
func (AtLending) rank() Rank    { return Lending }
func (AtInner) rank() Rank      { return Inner }

// Ranked is one of the types that name a rank.
type Ranked interface{ rank() Rank }
