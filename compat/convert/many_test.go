package convert_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"nvkv/compat/convert"
)

// recordsVariable is the environment variable with the number of records of TestManyEachWay.
const recordsVariable = "NVKV_CONVERT_RECORDS"

// TestManyEachWay converts records of 23-byte keys and 100-byte values between every two engines
// and prints the times. It uses a few records, or the number in the environment:
//
//	NVKV_CONVERT_RECORDS=1000000 go test -v -run ManyEachWay ./compat/convert
func TestManyEachWay(t *testing.T) {
	n := 5000
	if text := os.Getenv(recordsVariable); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		check(t, err)
	}
	dir := t.TempDir()
	stores := []string{"nvkv:%s/a.nvkv", "bbolt:%s/a.db/bucket", "pebble:%s/a.pebble"}
	for _, store := range stores {
		run(t, generated(n), locate(t, store, dir), convert.Options{})
	}
	for _, from := range stores {
		for _, to := range stores {
			if from == to {
				continue
			}
			result := run(t, locate(t, from, dir), locate(t, to, t.TempDir()), convert.Options{})
			t.Logf("%s to %s: %d records copied in %.2f s, verified in %.2f s", engine(from), engine(to), result.Entries, result.CopySeconds, result.VerifySeconds)
		}
	}
}

func engine(store string) string {
	name, _, _ := strings.Cut(store, ":")
	return name
}

// generated is a source of n records in order.
func generated(n int) convert.Location {
	open := func(convert.Location) (convert.Source, error) { return generator(n), nil }
	return convert.Location{Format: convert.Format{Name: "generated", Open: open}}
}

type generator int

func (g generator) Each(_ context.Context, fn func(key, value []byte) error) error {
	var key, value []byte
	x := uint64(1)
	for i := range int(g) {
		key = fmt.Appendf(key[:0], "user%019d", i)
		value = value[:0]
		for len(value) < 100 { // incompressible
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			value = append(value, byte(x), byte(x>>8), byte(x>>16), byte(x>>24))
		}
		if err := fn(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (g generator) Count() int64 { return int64(g) }
func (g generator) Close() error { return nil }
