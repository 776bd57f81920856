package nvkvraft

import (
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	raftbench "github.com/hashicorp/raft/bench"
	"nvkv/internal/effort"
)

// benchmarks are the functions of hashicorp/raft's package for benchmarks of stores.
var benchmarks = []struct {
	name   string
	log    func(*testing.B, raft.LogStore)
	stable func(*testing.B, raft.StableStore)
}{
	{name: "FirstIndex", log: raftbench.FirstIndex},
	{name: "LastIndex", log: raftbench.LastIndex},
	{name: "GetLog", log: raftbench.GetLog},
	{name: "StoreLog", log: raftbench.StoreLog},
	{name: "StoreLogs", log: raftbench.StoreLogs},
	{name: "DeleteRange", log: raftbench.DeleteRange},
	{name: "Set", stable: raftbench.Set},
	{name: "Get", stable: raftbench.Get},
	{name: "SetUint64", stable: raftbench.SetUint64},
	{name: "GetUint64", stable: raftbench.GetUint64},
}

func BenchmarkUpstream(b *testing.B) {
	for _, f := range benchmarks {
		b.Run(f.name, func(b *testing.B) {
			s := openLog(b, filepath.Join(effort.Dir(b), "raft.nv"), nil)
			if f.log != nil {
				f.log(b, s)
			} else {
				f.stable(b, s)
			}
		})
	}
}
