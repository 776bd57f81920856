package kv

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"nvkv/kv/internal/btree"
	"nvkv/nvmap"
)

// TestCheckAudits: every crash test relies on Check. Check finds slots without an owner, slots with
// two, and slots that the index reaches although they are free.
func TestCheckAudits(t *testing.T) {
	const leaked = "leaked: used, and nothing holds it"
	cases := []struct {
		name, want string
		spoil      func(t *testing.T, db *DB) error
	}{
		{"a slot", leaked, func(_ *testing.T, db *DB) error {
			_, err := db.r.AllocRecord(0, false)
			return err
		}},
		{"a run", leaked, func(_ *testing.T, db *DB) error {
			_, err := db.r.AllocRuns(3*nvmap.PageBytes, 1)
			return err
		}},
		{"a live slot", "marked live but not reached by the index", func(_ *testing.T, db *DB) error {
			o, err := db.r.AllocRecord(0, false)
			db.r.SetLive(o)
			return err
		}},
		{"a free record", "reached by the index but free", func(t *testing.T, db *DB) error {
			db.r.ClearLive(btree.RefOff(slotOf(t, db, "a")))
			return nil
		}},
		{"two keys of a slot", "owned twice", func(t *testing.T, db *DB) error {
			a := slotOf(t, db, "a")
			if err := db.ix.Find([]byte("b"), &db.way); err != nil {
				return err
			}
			_, err := db.ix.Update(&db.way, a)
			return err
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			db := openTest(t, filepath.Join(testDir(t), "s"), &Options{EvacuateBytes: -1})
			must(t, db.Write(batchOf([]change{put("a", "1"), put("b", "2")})))
			mustCheck(t, db)
			must(t, db.withTurn(func() error {
				db.publish.Lock()
				defer db.publish.Unlock()
				return c.spoil(t, db)
			}))
			var found []string
			must(t, db.Check(context.Background(), func(i CheckIssue) { found = append(found, i.String()) }))
			if all := strings.Join(found, "\n"); !strings.Contains(all, c.want) {
				t.Errorf("Check found %q", all)
			}
			abandonFile(t, db)
		})
	}
}
