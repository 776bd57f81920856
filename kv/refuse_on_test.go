//go:build nvkvdebug

package kv

import "testing"

// refuseFrom makes the nth allocation from now on and all later ones fail. 0 ends that.
func refuseFrom(_ testing.TB, db *DB, n int) { db.r.RefuseFrom(n) }
