//go:build zz

package kv

func zscan(db *DB, start []byte, n int, fn func(k, v []byte) bool) {
	db.View(func(tx *Tx) error {
		for k, v := range tx.All(start, nil) {
			if n--; !fn(k, v) || n == 0 {
				break
			}
		}
		return tx.Err()
	})
}
