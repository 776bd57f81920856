package kv

import (
	"bytes"
	"fmt"
	"testing"
)

// TestPoisonSlices: with the option, every slice that a transaction returns has its value while it
// is valid, and is overwritten afterwards.
func TestPoisonSlices(t *testing.T) {
	for _, writable := range []bool{false, true} {
		t.Run(fmt.Sprint("writable=", writable), func(t *testing.T) { poisonSlices(t, writable) })
	}
}

func poisonSlices(t *testing.T, writable bool) {
	db := openTest(t, "", &Options{Device: "mem", MaxBytes: 8 << 20, PoisonSlices: true})
	large := string(bytes.Repeat([]byte("l"), 100_000)) // in runs
	for k, v := range map[string]string{"a": "va", "b": large, "c": "vc"} {
		must(t, db.Put([]byte(k), []byte(v)))
	}
	tx, err := db.Begin(writable)
	must(t, err)
	want := map[string]string{"a": "va", "b": large, "c": "vc"}
	if writable {
		must(t, tx.Put([]byte("aa"), []byte("own")))
		want["aa"] = "own"
	}
	valid := func(what string, got []byte, want string) {
		t.Helper()
		if string(got) != want {
			t.Errorf("%s is %.10q, want %.10q", what, got, want)
		}
	}
	gone := func(what string, got []byte) {
		t.Helper()
		if len(got) == 0 || len(bytes.Trim(got, string([]byte{poison}))) > 0 {
			t.Errorf("%s is %.10q, which is not valid any more", what, got)
		}
	}
	var got [][]byte
	for k, v := range want {
		b, err := tx.Get([]byte(k))
		must(t, err)
		valid("Get", b, v)
		got = append(got, b)
	}
	c := tx.Cursor()
	for ok := c.First(); ok; {
		k, v := c.Key(), c.Value()
		valid("Value", v, want[string(k)])
		if !c.Seek(k) { // with its own slice
			t.Fatal("the key is not found")
		}
		gone("Key after a move", k)
		gone("Value after a move", v)
		ok = c.Next()
	}
	for _, each := range []func(func(k, v []byte) bool){tx.All(nil, nil), tx.Backward(nil, nil), tx.Prefix(nil)} {
		var k0, v0 []byte
		for k, v := range each {
			valid("a yielded value", v, want[string(k)])
			if k0 != nil {
				gone("the key before", k0)
				gone("the value before", v0)
			}
			k0, v0 = k, v
		}
		gone("the last key", k0)
	}
	c.First()
	got = append(got, c.Key(), c.Value())
	must(t, tx.Rollback())
	for _, b := range got {
		gone("a slice after its Tx", b)
	}
	model{"a": "va", "b": large, "c": "vc"}.compare(t, db)
}
