package kv

import "testing"

// BenchmarkView50 reads 50 records from a random key on in a snapshot of its own. ns/op is for all.
func BenchmarkView50(b *testing.B) {
	keys := benchKeys(benchRecords())
	db := loadBench(b, keys)
	next := benchOrder(keys, 1<<16)
	for b.Loop() {
		err := db.View(func(tx *Tx) error {
			n := 0
			for k, v := range tx.All(next(), nil) {
				if sumRecord(k, v); n == 49 {
					break
				}
				n++
			}
			return tx.Err()
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkKeys walks all keys.
func BenchmarkKeys(b *testing.B) {
	keys := benchKeys(benchRecords())
	db := loadBench(b, keys)
	for b.Loop() {
		err := db.View(func(tx *Tx) error {
			for k := range tx.Keys(nil, nil) {
				sumRecord(k, nil)
			}
			return tx.Err()
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(keys)), "ns/key")
}

// BenchmarkGetMany reads 100 random keys together. ns/op is for one key.
func BenchmarkGetMany(b *testing.B) {
	keys := benchKeys(benchRecords())
	db := loadBench(b, keys)
	next := benchOrder(keys, benchOps)
	var many [][]byte
	for b.Loop() {
		if many = append(many, next()); len(many) < 100 {
			continue
		}
		err := db.GetMany(many, func(_ int, v []byte, err error) bool {
			if err != nil {
				b.Fatal(err)
			}
			return sumRecord(nil, v)
		})
		if err != nil {
			b.Fatal(err)
		}
		many = many[:0]
	}
}
