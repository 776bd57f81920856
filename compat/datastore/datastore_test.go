package nvkvdatastore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dstest "github.com/ipfs/go-datastore/test"
	"nvkv/kv"
)

func open(t testing.TB, o *kv.Options) *Datastore {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), "store"), o)
	must(t, err)
	t.Cleanup(func() {
		if err := d.Check(context.Background()); err != nil && !errors.Is(err, kv.ErrClosed) {
			t.Error(err)
		}
		must(t, d.Close())
	})
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// TestSuite is upstream's, on memory and on a file.
func TestSuite(t *testing.T) {
	dstest.ElemCount = 20
	t.Run("mem", func(t *testing.T) { dstest.SubtestAll(t, open(t, &kv.Options{Device: "mem", MaxBytes: 64 << 20})) })
	t.Run("file", func(t *testing.T) { dstest.SubtestAll(t, open(t, &kv.Options{Durability: kv.Relaxed})) })
}

func TestFeatures(t *testing.T) {
	var names []string
	for _, f := range ds.FeaturesForDatastore(open(t, nil)) {
		names = append(names, f.Name)
	}
	if got, want := strings.Join(names, " "), "Batching Checked GC Persistent TTL Transaction"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// clock is a clock that a test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

var (
	ctx  = context.Background()
	a, b = ds.NewKey("/a"), ds.NewKey("/b")
)

// ttlOf has what a datastore and a transaction have in common.
type ttlOf interface {
	ds.Read
	ds.Write
	ds.TTL
}

func testTTL(t *testing.T, c *clock, d ttlOf) {
	must(t, d.PutWithTTL(ctx, a, []byte("1"), time.Minute))
	at, err := d.GetExpiration(ctx, a)
	must(t, err)
	if !at.Equal(c.at.Add(time.Minute)) {
		t.Errorf("expires %v, want a minute from %v", at, c.at)
	}
	must(t, d.SetTTL(ctx, a, time.Hour))
	if at, err = d.GetExpiration(ctx, a); err != nil || !at.Equal(c.at.Add(time.Hour)) {
		t.Errorf("after SetTTL: %v, %v", at, err)
	}
	if v, err := d.Get(ctx, a); err != nil || string(v) != "1" {
		t.Errorf("after SetTTL: %q, %v", v, err)
	}
	must(t, d.Put(ctx, b, []byte("2")))
	if at, err := d.GetExpiration(ctx, b); err != nil || !at.IsZero() {
		t.Errorf("without an expiry: %v, %v", at, err)
	}
	must(t, d.Put(ctx, a, []byte("3")))
	if at, err := d.GetExpiration(ctx, a); err != nil || !at.IsZero() {
		t.Errorf("Put keeps the expiry: %v, %v", at, err)
	}
	must(t, d.SetTTL(ctx, a, time.Minute))
	must(t, d.SetTTL(ctx, b, -1))
	if has, err := d.Has(ctx, b); err != nil || has {
		t.Errorf("a ttl below 0: %v, %v", has, err)
	}
	wantErr(t, "SetTTL of an absent key", d.SetTTL(ctx, b, time.Minute), ds.ErrNotFound)
	_, err = d.GetExpiration(ctx, b)
	wantErr(t, "GetExpiration of an absent key", err, ds.ErrNotFound)
}

func TestTTL(t *testing.T) {
	c := &clock{time.Unix(1e9, 0)}
	d := open(t, &kv.Options{Clock: c.now})
	testTTL(t, c, d)
	c.at = c.at.Add(time.Minute)
	expired(t, d)

	tx, err := d.NewTransaction(ctx, false)
	must(t, err)
	testTTL(t, c, tx.(ttlOf))
	must(t, tx.Commit(ctx))
	if has, err := d.Has(ctx, a); err != nil || !has {
		t.Errorf("after the commit: %v, %v", has, err)
	}
	c.at = c.at.Add(time.Minute)
	expired(t, d)
}

func expired(t *testing.T, d ds.Read) {
	t.Helper()
	_, err := d.Get(ctx, a)
	wantErr(t, "Get of an expired key", err, ds.ErrNotFound)
	size, err := d.GetSize(ctx, a)
	wantErr(t, "GetSize of an expired key", err, ds.ErrNotFound)
	if has, err := d.Has(ctx, a); err != nil || has || size != -1 {
		t.Errorf("an expired key: %v, %v, %d bytes", has, err, size)
	}
	if got := keys(t, d, query.Query{}); len(got) != 0 {
		t.Errorf("a query finds %v", got)
	}
}

// keys returns the keys that a query finds.
func keys(t *testing.T, d ds.Read, q query.Query) (keys []string) {
	t.Helper()
	for e, err := range ds.QueryIter(ctx, d, q) {
		must(t, err)
		if q.KeysOnly && e.Value != nil {
			t.Errorf("%s: a value", e.Key)
		}
		keys = append(keys, e.Key)
	}
	return keys
}

func fill(t *testing.T, d ds.Write, n int) {
	t.Helper()
	for i := range n {
		must(t, d.Put(ctx, ds.NewKey(fmt.Sprintf("/k/%03d", i)), fmt.Append(nil, -i)))
	}
}

// TestQuery: prefixes end at slashes, orders of keys read nothing but what is asked for,
// and what a query is not asked for is not there.
func TestQuery(t *testing.T) {
	c := &clock{time.Unix(1e9, 0)}
	d := open(t, &kv.Options{Clock: c.now})
	for _, k := range []string{"/a", "/a/1", "/a/1/x", "/a/2", "/ab", "/a0", "/b/1"} {
		must(t, d.PutWithTTL(ctx, ds.NewKey(k), []byte(k[1:]), time.Hour))
	}
	desc := []query.Order{query.OrderByKeyDescending{}}
	for _, test := range []struct {
		q    query.Query
		want string
	}{
		{query.Query{}, "/a /a/1 /a/1/x /a/2 /a0 /ab /b/1"},
		{query.Query{Prefix: "/a"}, "/a/1 /a/1/x /a/2"},
		{query.Query{Prefix: "a/"}, "/a/1 /a/1/x /a/2"},
		{query.Query{Prefix: "/a", Orders: desc}, "/a/2 /a/1/x /a/1"},
		{query.Query{Prefix: "/a", Orders: desc, Offset: 1, Limit: 1, KeysOnly: true}, "/a/1/x"},
		{query.Query{Prefix: "/", Orders: []query.Order{query.OrderByKey{}}, Limit: 2}, "/a /a/1"},
		{query.Query{Orders: []query.Order{query.OrderByValueDescending{}}, Limit: 2, KeysOnly: true}, "/b/1 /ab"},
		{query.Query{Filters: []query.Filter{query.FilterValueCompare{Op: query.Equal, Value: []byte("ab")}}, KeysOnly: true}, "/ab"},
		{query.Query{Prefix: "/c"}, ""},
	} {
		if got := strings.Join(keys(t, d, test.q), " "); got != test.want {
			t.Errorf("%v: %s, want %s", test.q, got, test.want)
		}
		tx, err := d.NewTransaction(ctx, false)
		must(t, err)
		if got := strings.Join(keys(t, tx, test.q), " "); got != test.want {
			t.Errorf("%v in a transaction: %s, want %s", test.q, got, test.want)
		}
		tx.Discard(ctx)
	}
	r, err := d.Query(ctx, query.Query{Prefix: "/b", KeysOnly: true, ReturnsSizes: true, ReturnExpirations: true})
	must(t, err)
	all, err := r.Rest()
	must(t, err)
	if len(all) != 1 || all[0].Value != nil || all[0].Size != 3 || !all[0].Expiration.Equal(c.at.Add(time.Hour)) {
		t.Errorf("%+v", all)
	}
}

// TestQuerySeesOneState: what is written while a query is read does not show, and a query
// that is left or cancelled holds no snapshot.
func TestQuerySeesOneState(t *testing.T) {
	d := open(t, nil)
	fill(t, d, 100)
	r, err := d.Query(ctx, query.Query{})
	must(t, err)
	for i := range 100 {
		e, ok := r.NextSync()
		if want := fmt.Sprintf("/k/%03d", i); !ok || e.Error != nil || e.Key != want {
			t.Fatalf("%d: %+v, %v", i, e, ok)
		}
		must(t, d.Delete(ctx, ds.NewKey(fmt.Sprintf("/k/%03d", 99-i))))
		must(t, d.Put(ctx, ds.NewKey(fmt.Sprintf("/k/%03d", 100+i)), nil))
	}
	if e, ok := r.NextSync(); ok {
		t.Errorf("more: %+v", e)
	}
	r, err = d.Query(ctx, query.Query{})
	must(t, err)
	<-r.Next()
	must(t, r.Close())
	must(t, r.Close())
	cancelled, cancel := context.WithCancel(ctx)
	r, err = d.Query(cancelled, query.Query{})
	must(t, err)
	cancel()
	e, ok := r.NextSync()
	if wantErr(t, "after cancelling", e.Error, context.Canceled); !ok {
		t.Error("no result")
	}
	if n := d.db.Metrics().Snapshots; n != 0 {
		t.Errorf("%d snapshots are open", n)
	}
}

// TestBatchReuse: a batch is empty after its commit, and takes no slice of the caller's.
func TestBatchReuse(t *testing.T) {
	d := open(t, nil)
	bt, err := d.Batch(ctx)
	must(t, err)
	v := []byte("one")
	must(t, bt.Put(ctx, a, v))
	copy(v, "two")
	must(t, bt.Commit(ctx))
	must(t, d.Put(ctx, a, []byte("mine")))
	must(t, bt.Put(ctx, b, v))
	must(t, bt.Delete(ctx, b))
	must(t, bt.Put(ctx, b, v))
	if has, err := d.Has(ctx, b); err != nil || has {
		t.Errorf("before the commit: %v, %v", has, err)
	}
	must(t, bt.Commit(ctx))
	for i, k := range []ds.Key{a, b} {
		want := []string{"mine", "two"}[i]
		if got, err := d.Get(ctx, k); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", k, got, err, want)
		}
	}
	must(t, bt.Delete(ctx, a))
	must(t, d.Close())
	wantErr(t, "after Close", bt.Commit(ctx), kv.ErrClosed)
}

func TestTransaction(t *testing.T) {
	d := open(t, nil)
	must(t, d.Put(ctx, a, []byte("old")))
	ro, err := d.NewTransaction(ctx, true)
	must(t, err)
	tx, err := d.NewTransaction(ctx, false)
	must(t, err)
	must(t, tx.Put(ctx, a, []byte("new")))
	must(t, tx.Put(ctx, b, nil))
	for _, side := range []struct {
		name, want string
		r          ds.Read
	}{{"the transaction", "new", tx}, {"others", "old", d}, {"a read-only one", "old", ro}} {
		v, err := side.r.Get(ctx, a)
		size, err2 := side.r.GetSize(ctx, a)
		if err != nil || err2 != nil || string(v) != side.want || size != len(side.want) {
			t.Errorf("%s: %q, %d, %v, %v", side.name, v, size, err, err2)
		}
	}
	if got := keys(t, tx, query.Query{}); !slices.Equal(got, []string{"/a", "/b"}) {
		t.Errorf("the transaction: %v", got)
	}
	must(t, tx.Commit(ctx))
	tx.Discard(ctx)
	wantErr(t, "after the end", tx.Put(ctx, a, nil), kv.ErrTxClosed)
	if v, err := d.Get(ctx, a); err != nil || string(v) != "new" {
		t.Errorf("after the commit: %q, %v", v, err)
	}
	if v, err := ro.Get(ctx, a); err != nil || string(v) != "old" {
		t.Errorf("the read-only one after the commit: %q, %v", v, err)
	}
	wantErr(t, "writing in a read-only one", ro.Put(ctx, a, nil), kv.ErrReadOnly)
	must(t, ro.Commit(ctx))
	tx, err = d.NewTransaction(ctx, false)
	must(t, err)
	must(t, tx.Delete(ctx, a))
	tx.Discard(ctx)
	if has, err := d.Has(ctx, a); err != nil || !has {
		t.Errorf("after Discard: %v, %v", has, err)
	}
}

// TestTransactionWaits: a second writable transaction gives up when its context ends, and
// what had begun for it meanwhile keeps nobody out.
func TestTransactionWaits(t *testing.T) {
	d := open(t, nil)
	first, err := d.NewTransaction(ctx, false)
	must(t, err)
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	_, err = d.NewTransaction(short, false)
	wantErr(t, "the second", err, context.DeadlineExceeded)
	first.Discard(ctx)
	must(t, d.Put(ctx, a, nil))
	long, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	tx, err := d.NewTransaction(long, false)
	must(t, err)
	must(t, tx.Commit(ctx))
}

// TestClose: what is open fails after Close, and the store is found again.
func TestClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	d, err := Open(path, &kv.Options{Durability: kv.Relaxed})
	must(t, err)
	fill(t, d, 10)
	must(t, d.Sync(ctx, ds.NewKey("/k")))
	if n, err := d.DiskUsage(ctx); err != nil || n == 0 {
		t.Errorf("%d bytes, %v", n, err)
	}
	must(t, d.CollectGarbage(ctx))
	r, err := d.Query(ctx, query.Query{})
	must(t, err)
	tx, err := d.NewTransaction(ctx, false)
	must(t, err)
	must(t, tx.Put(ctx, a, nil))
	must(t, d.Close())
	must(t, d.Close())
	if _, err := r.Rest(); err == nil {
		t.Error("a query goes on")
	}
	if err := tx.Commit(ctx); err == nil {
		t.Error("a transaction is committed")
	}
	_, err = d.Get(ctx, a)
	wantErr(t, "Get", err, kv.ErrClosed)
	_, err = d.DiskUsage(ctx)
	wantErr(t, "DiskUsage", err, kv.ErrClosed)
	wantErr(t, "Sync", d.Sync(ctx, a), kv.ErrClosed)
	_, err = d.Query(ctx, query.Query{})
	wantErr(t, "Query", err, kv.ErrClosed)
	wantErr(t, "SetTTL", d.SetTTL(ctx, a, time.Hour), kv.ErrClosed)

	db, err := kv.Open(path, nil)
	must(t, err)
	again := New(db)
	if got := keys(t, again, query.Query{}); len(got) != 10 {
		t.Errorf("%d keys after opening", len(got))
	}
	must(t, again.Close())
	must(t, again.Put(ctx, a, nil)) // the store is its owner's
	must(t, db.Close())
}
