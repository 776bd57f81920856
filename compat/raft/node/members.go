package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/raft"
	nvkvraft "nvkv/compat/raft"
	"nvkv/kv"
)

// Member is a node of the cluster.
type Member struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Leader  bool   `json:"leader,omitempty"`
}

// Status is how a node stands.
type Status struct {
	ID      string   `json:"id"`
	State   string   `json:"state"` // Leader, Follower, Candidate, or Failed
	Leader  string   `json:"leader,omitempty"`
	Address string   `json:"leader_address,omitempty"`
	Term    uint64   `json:"term"`
	Last    uint64   `json:"last_index"`
	Commit  uint64   `json:"commit_index"`
	Applied uint64   `json:"applied_index"`
	First   uint64   `json:"first_index"`
	Members []Member `json:"members,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// Status returns how the node stands.
func (n *Node) Status() Status {
	s := Status{ID: n.c.ID, State: "Failed"}
	err := n.use(func(r *running) error {
		addr, id := r.raft.LeaderWithID()
		first, _ := r.log.FirstIndex()
		s = Status{
			ID: n.c.ID, State: r.raft.State().String(), Leader: string(id), Address: string(addr), Term: r.raft.CurrentTerm(),
			Last: r.raft.LastIndex(), Commit: r.raft.CommitIndex(), Applied: r.state.Applied(), First: first,
		}
		f := r.raft.GetConfiguration()
		if err := f.Error(); err != nil {
			return err
		}
		for _, m := range f.Configuration().Servers {
			s.Members = append(s.Members, Member{string(m.ID), string(m.Address), m.ID == id})
		}
		return nil
	})
	if err != nil {
		s.Error = err.Error()
	}
	return s
}

// Metrics returns the counters of the log's store and of the state's.
func (n *Node) Metrics() (log, state kv.Metrics, err error) {
	err = n.use(func(r *running) (err error) {
		log = r.log.Metrics()
		state, err = r.state.Metrics()
		return err
	})
	return log, state, err
}

// change has the members changed.
func (n *Node) change(fn func(r *raft.Raft) raft.Future) error {
	return n.use(func(r *running) error {
		if r.raft.State() != raft.Leader {
			return r.leads()
		}
		if err := r.wait(fn(r.raft)); err != nil {
			return r.applyError(err)
		}
		return nil
	})
}

// Join adds a node, or gives a node another address. The node must run.
func (n *Node) Join(id, address string) error {
	if id == "" || address == "" {
		return errors.New("node: a node that joins must have an ID and an address")
	}
	return n.change(func(r *raft.Raft) raft.Future {
		return r.AddVoter(raft.ServerID(id), raft.ServerAddress(address), 0, applyTimeout)
	})
}

// Remove removes a node. A node that lost its files must be removed before it starts again: it
// forgot whom it voted for.
func (n *Node) Remove(id string) error {
	return n.change(func(r *raft.Raft) raft.Future { return r.RemoveServer(raft.ServerID(id), 0, applyTimeout) })
}

// Transfer makes another node lead: that of the ID, or the one that is furthest for "".
func (n *Node) Transfer(id string) error {
	var to raft.ServerAddress
	for _, m := range n.Status().Members {
		if m.ID == id {
			to = raft.ServerAddress(m.Address)
		}
	}
	if id != "" && to == "" {
		return fmt.Errorf("node: %.40q is no node of the cluster", id)
	}
	return n.change(func(r *raft.Raft) raft.Future {
		if id == "" {
			return r.LeadershipTransfer()
		}
		return r.LeadershipTransferToServer(raft.ServerID(id), to)
	})
}

// Snapshot has a snapshot taken now.
func (n *Node) Snapshot() error {
	return n.use(func(r *running) error {
		err := r.wait(r.raft.Snapshot())
		if errors.Is(err, raft.ErrNothingNewToSnapshot) {
			return nil
		}
		return err
	})
}

// Backup writes a backup of what the cluster holds.
func (n *Node) Backup(ctx context.Context, c Consistency, w io.Writer) error {
	return n.Read(ctx, c, func(s *nvkvraft.FSM, _ uint64) error { return s.WriteSnapshot(ctx, w) })
}

// indexGap lies between the entries that nodes may have and the index of a restored backup.
const indexGap = 1 << 20

// Restore replaces what the cluster holds by a backup, from where backup stands to its end.
// Sessions are replaced too. The backup is tried first, because raft ends the process where a
// leader's state machine refuses it.
func (n *Node) Restore(backup *os.File) error {
	return n.use(func(r *running) error {
		if r.raft.State() != raft.Leader {
			return r.leads()
		}
		begin, err := backup.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		info, err := backup.Stat()
		if err != nil {
			return err
		}
		if err := r.state.TrySnapshot(context.Background(), backup); err != nil {
			return err
		}
		if _, err := backup.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		index := r.raft.LastIndex() + indexGap
		// raft gives the snapshot the index above this one.
		from, err := nvkvraft.Readdress(backup, index+1)
		if err != nil {
			return err
		}
		err = r.raft.Restore(&raft.SnapshotMeta{Version: 1, Index: index, Size: info.Size() - begin}, from, 0)
		if err != nil {
			return r.applyError(err)
		}
		return nil
	})
}
