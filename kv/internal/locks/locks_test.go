package locks

import "testing"

// TestRanks checks that each rank has a name of its own, and each type the rank that it names.
func TestRanks(t *testing.T) {
	names := map[string]bool{}
	for r := Closing; r <= Inner; r++ {
		names[r.String()] = true
	}
	if len(names) != int(Inner) {
		t.Errorf("%d names for %d ranks", len(names), Inner)
	}
	var guard Mutex[AtPublish]
	guard.Lock()
	if guard.TryLock() {
		t.Error("a mutex that is taken was taken again")
	}
	guard.Unlock()
	for want, at := range map[Rank]Ranked{Closing: AtClosing{}, Writing: AtWriting{}, Checkpoint: AtCheckpoint{}, Publish: AtPublish{}, Backing: AtBacking{}, Lending: AtLending{}, Inner: AtInner{}} {
		if at.rank() != want {
			t.Errorf("%v has rank %v", want, at.rank())
		}
	}
}
