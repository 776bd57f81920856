// Package nvkvraft runs nvkv under github.com/hashicorp/raft.
//
// A [Store] holds a raft log and raft's own settings. It implements raft.LogStore,
// raft.StableStore, raft.MonotonicLogStore and raft.CommitTrackingLogStore:
//
//	s, err := nvkvraft.Open("raft.nv", nil)
//	r, err := raft.NewRaft(config, fsm, s, s, snapshots, transport)
//
// # What a call costs
//
// StoreLogs is one batch of kv, and so one fence, however many entries it gets. The commit
// index that raft stages travels inside the entries, so it costs no record of its own.
// DeleteRange is one range tombstone and one fence, however many entries it removes.
// FirstIndex and LastIndex are words in memory. GetLog is one point read, which takes no lock.
//
// # Layout
//
// A store has these keys:
//
//	'f'           the name and the number of this layout
//	'l' index     an entry; the index has 8 bytes, the highest first
//	'p' number    free space that is being written: see Options.PrewriteBytes
//	's' name      a value of the StableStore
//
// # The state machine
//
// An [FSM] is an ordered map above a second store of kv: [Command] says what it can do. The two
// stores are apart because a restored snapshot replaces the state and leaves the log.
package nvkvraft
