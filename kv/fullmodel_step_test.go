package kv

import (
	"bytes"
	"time"
)

func (f *fullRun) step() {
	switch f.rng.IntN(14) {
	case 0, 1:
		ks := f.someKeys(1 + f.rng.IntN(300))
		f.note("deletes %d", len(ks))
		f.must(f.deleteAs(1, ks))
		f.gone(ks)
	case 2:
		ks := f.someKeys(1 + f.rng.IntN(f.most))
		f.note("update %d deletes", len(ks))
		f.must(f.deleteAs(2, ks))
		f.gone(ks)
	case 3:
		ks := f.someKeys(1 + f.rng.IntN(f.most))
		f.note("batch %d deletes", len(ks))
		f.must(f.deleteAs(3, ks))
		f.gone(ks)
	case 4:
		f.deleteRange()
	case 5:
		f.deleteRangeInTx()
	case 6:
		f.mixed()
	case 7:
		f.overwrite()
	case 8:
		f.reopen()
	case 9:
		f.note("compact")
		f.must(f.db.Compact(f.t.Context()))
	case 10:
		f.note("checkpoint")
		f.must(f.db.Checkpoint(f.t.Context()))
	case 11:
		f.besideSnapshot()
	case 12:
		f.expiring()
	case 13:
		f.fill()
	}
}

func (f *fullRun) someRange(most int) (start, end string, n int) {
	ks := f.m.keys()
	if len(ks) == 0 {
		return "", "", 0
	}
	i := f.rng.IntN(len(ks))
	n = min(len(ks)-i-1, f.rng.IntN(most+1))
	return ks[i], ks[i+n], n
}

func (f *fullRun) cutModel(start, end string) {
	for k := range f.m {
		if k >= start && k < end {
			delete(f.m, k)
		}
	}
}

func (f *fullRun) deleteRange() {
	start, end, n := f.someRange(len(f.m))
	f.note("range of %d", n)
	f.must(f.db.DeleteRange([]byte(start), []byte(end)))
	f.cutModel(start, end)
}

func (f *fullRun) deleteRangeInTx() {
	most := f.most / 2
	if f.shape.keys == "long" {
		most = 0
	}
	start, end, n := f.someRange(most)
	ks := f.someKeys(f.rng.IntN(f.most/2 + 1))
	f.note("txrange of %d and %d deletes", n, len(ks))
	f.must(f.db.Update(func(tx *Tx) error {
		for _, k := range ks {
			if err := tx.Delete([]byte(k)); err != nil {
				return err
			}
		}
		return tx.DeleteRange([]byte(start), []byte(end))
	}))
	f.gone(ks)
	f.cutModel(start, end)
}

// mixed deletes and puts some keys in one transaction, which may be refused.
func (f *fullRun) mixed() {
	ks := f.someKeys(1 + f.rng.IntN(60))
	puts := model{}
	for range f.rng.IntN(60) {
		puts[f.newKey()] = f.newValue()
	}
	inTx := f.rng.IntN(2) == 0
	f.note("mixed %d deletes and %d puts, in a tx: %v", len(ks), len(puts), inTx)
	b := f.db.NewBatch()
	for _, k := range ks {
		b.Delete([]byte(k))
	}
	for k, v := range puts {
		b.Put([]byte(k), []byte(v))
	}
	var err error
	if inTx {
		err = f.db.Update(func(tx *Tx) error {
			for _, k := range ks {
				if err := tx.Delete([]byte(k)); err != nil {
					return err
				}
			}
			for k, v := range puts {
				if err := tx.Put([]byte(k), []byte(v)); err != nil {
					return err
				}
			}
			return nil
		})
	} else {
		err = f.db.Write(b)
	}
	if !f.may(err) {
		return
	}
	f.gone(ks)
	for k, v := range puts {
		f.set(k, v)
	}
}

// overwrite puts smaller values.
func (f *fullRun) overwrite() {
	ks := f.someKeys(1 + f.rng.IntN(60))
	f.note("overwrite %d", len(ks))
	for _, k := range ks {
		v := f.m[k][:len(f.m[k])/2]
		if f.may(f.db.Put([]byte(k), []byte(v))) {
			f.m[k] = v
		}
	}
}

func (f *fullRun) reopen() {
	killed := f.rng.IntN(2) == 0
	f.note("reopen, killed: %v", killed)
	if killed {
		if f.rng.IntN(2) == 0 {
			f.must(f.db.Checkpoint(f.t.Context()))
		}
		f.must(f.db.Sync())
		abandon(f.db) // the device keeps its contents, as after SIGKILL
	} else {
		f.must(f.db.Close())
	}
	f.open()
	ks := f.someKeys(1 + f.rng.IntN(f.most))
	f.note("deletes after opening: %d", len(ks))
	f.must(f.deleteAs(1+f.rng.IntN(3), ks))
	f.gone(ks)
	if f.rng.IntN(2) == 0 {
		f.check()
	}
}

// besideSnapshot deletes while a snapshot is open, until the store refuses. After the snapshot has
// ended the store must not refuse.
func (f *fullRun) besideSnapshot() {
	tx, err := f.db.Begin(false)
	must(f.t, err)
	before := map[string]string{}
	for _, k := range f.someKeys(20) {
		before[k] = f.m[k]
	}
	n := 0
	for range 40 {
		ks := f.someKeys(20)
		f.note("deletes beside a snapshot")
		if !f.may(f.deleteAs(1+2*f.rng.IntN(2), ks[:min(1, len(ks))])) {
			break
		}
		f.gone(ks[:min(1, len(ks))])
		n++
	}
	f.fill()
	for k, v := range before {
		if got, err := tx.Get([]byte(k)); err != nil || !bytes.Equal(got, []byte(v)) {
			f.t.Fatalf("a snapshot's %s: %d bytes, %v", shortKey(k), len(got), err)
		}
	}
	must(f.t, tx.Rollback())
	ks := f.someKeys(min(50, f.most))
	f.note("deletes after a snapshot")
	f.must(f.deleteAs(1+f.rng.IntN(3), ks))
	f.gone(ks)
}

// expiring replaces keys by some with an expiry, and waits for that. Then as many keys must fit.
func (f *fullRun) expiring() {
	ks := f.someKeys(1 + f.rng.IntN(200))
	f.note("expiring: %d deletes", len(ks))
	f.must(f.deleteAs(1, ks))
	f.gone(ks)
	n, fit, size := 0, 0, len(f.newValue())
	for ; n < len(ks); n++ {
		f.note("expiring put")
		if !f.may(f.db.PutTTL([]byte(f.newKey()), []byte(fullValue[:size]), time.Hour)) {
			break
		}
	}
	f.fill()
	f.now = f.now.Add(2 * time.Hour)
	for i := range n / 2 {
		k := f.newKey()
		f.note("put %d of %d after expiry", i, n)
		if f.may(f.db.PutTTL([]byte(k), []byte(fullValue[:size]), 1e6*time.Hour)) {
			f.set(k, fullValue[:size])
			fit++
		}
	}
	if fit < n/4 && f.shape.keys != "long" && f.shape.opt.Durability == Sync { // or a leaf is full
		f.t.Fatalf("%d keys have expired, of half as many %d fit", n, fit)
	}
}
