package kv

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"nvkv/internal/effort"
)

// sumOf adds up the fields of an account, and checks that none is negative.
func sumOf(t *testing.T, a SpaceAccount) (n int64) {
	t.Helper()
	v := reflect.ValueOf(a)
	for i := range v.NumField() {
		if v.Field(i).Int() < 0 {
			t.Errorf("%s is %d", v.Type().Field(i).Name, v.Field(i).Int())
		}
		n += v.Field(i).Int()
	}
	return n
}

// tmpfsMagic is the type of a tmpfs for statfs.
const tmpfsMagic = 0x01021994

// The account adds up to the file, whatever happened to the store, and what is given back is not in
// the file's blocks.
func TestAccountAddsUpToTheFile(t *testing.T) {
	dir := effort.Dir(t)
	path := filepath.Join(dir, "s")
	var fs syscall.Statfs_t
	must(t, syscall.Statfs(dir, &fs))
	exact := fs.Type == tmpfsMagic // others count blocks of their own
	o := &Options{EvacuateBytes: -1}
	db := openTest(t, path, o)
	var a SpaceAccount
	check := func(what string) {
		t.Helper()
		st, err := os.Stat(path)
		must(t, err)
		m := db.Metrics()
		a = m.Account
		if n := sumOf(t, a); n != st.Size() || n != m.DeviceBytes {
			t.Errorf("%s: the account has %d bytes, the file %d, the device %d", what, n, st.Size(), m.DeviceBytes)
		}
		if blocks := st.Sys().(*syscall.Stat_t).Blocks * 512; exact && blocks > st.Size()-a.GivenBackBytes {
			t.Errorf("%s: the file has %d bytes of blocks, its size is %d, of which %d were given back", what, blocks, st.Size(), a.GivenBackBytes)
		}
		if n := a.RecordLiveBytes + a.IndexLiveBytes + a.RunLiveBytes; n != m.LiveBytes {
			t.Errorf("%s: %d live bytes in the account, %d in all", what, n, m.LiveBytes)
		}
	}
	check("empty")
	key := func(i int) []byte { return fmt.Appendf(nil, "key%06d", i*7919%20000) }
	for i := range 20000 {
		must(t, db.Put(key(i), bytes.Repeat([]byte{1}, 100)))
	}
	must(t, db.Put([]byte("large"), make([]byte, 1<<20)))
	check("loaded")
	if a.RecordLiveBytes < 20000*100 || a.IndexLiveBytes < 20000*8 || a.RunLiveBytes < 1<<20 || a.MetadataBytes == 0 {
		t.Errorf("loaded: %+v", a)
	}
	must(t, db.Checkpoint(t.Context()))
	for i := range 4000 {
		must(t, db.Put(key(i), bytes.Repeat([]byte{2}, 200)))
	}
	check("changed after a checkpoint")
	if a.IndexHeldBytes < a.IndexLiveBytes/8 {
		t.Errorf("the last checkpoint's index is missing: %+v", a)
	}
	tx, err := db.Begin(false)
	must(t, err)
	for i := range 4000 {
		must(t, db.Put(key(i), []byte("short")))
	}
	check("changed beside a snapshot")
	if a.RecordHeldBytes < 4000*200 {
		t.Errorf("what the snapshot sees is missing: %+v", a)
	}
	must(t, tx.Rollback())
	must(t, db.DeleteRange(nil, []byte("key015")))
	must(t, db.Compact(context.Background()))
	check("compacted")
	must(t, db.Close())
	db = openTest(t, path, o)
	check("opened again")
}
