package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"nvkv/kv"
)

// matrixCommands are the commands on stores. S is the store, O the output.
var matrixCommands = map[string]string{
	"put": "put S a 2", "get": "get S a", "del": "del S a", "scan": "scan S", "dump": "dump S", "load": "load S -",
	"info": "info S", "stats": "stats S", "check": "check S", "compact": "compact S", "backup": "backup S O",
	"restore": "restore S O", "salvage": "salvage S O", "convert": "convert --from nvkv:S --to nvkv:O",
	"to text": "convert --from nvkv:S --to csv:O", "to lines": "salvage S O.jsonl",
}

// matrix gives the expected result of each command in each situation: the exit code, and after it
// the files that must be there: = only the earlier files, unchanged; + the complete output and the
// earlier files; ~ a store that was changed or made.
//
// Restore reads a backup, which takes the place of the store.
var matrix = []struct {
	situation string
	says      string // every error must contain one of these
	cells     string
}{
	{"fine", "", "put 0~ get 0= del 0~ scan 0= dump 0= load 0~ info 0= stats 0= check 0= compact 0~ backup 0+ restore 0+ salvage 0+ convert 0+ to-text 0+ to-lines 0+"},
	{"absent", "no such file", "put 0~ get 1= del 1= scan 1= dump 1= load 0~ info 1= stats 1= check 1= compact 1= backup 1= restore 1= salvage 1= convert 1= to-text 1= to-lines 1="},
	{"directory", "directory", "put 1= get 1= del 1= scan 1= dump 1= load 1= info 1= stats 1= check 1= compact 1= backup 1= restore 1= salvage 1= convert 1= to-text 1= to-lines 1="},
	{"pebble", "pebble", "put 1= get 1= del 1= scan 1= dump 1= load 1= info 1= stats 1= check 1= compact 1= backup 1="},
	{"empty", "", "put 0~ get 1= del 3~ scan 1= dump 1= load 0~ info 1= stats 1= check 1= compact 0~ backup 1= restore 1= salvage 1= convert 1= to-text 1= to-lines 1="},
	{"text", "", "put 1= get 1= del 1= scan 1= dump 1= load 1= info 1= stats 1= check 1= compact 1= backup 1= restore 1= salvage 1= convert 1= to-text 1= to-lines 1="},
	{"bbolt", "bbolt file", "put 1= get 1= del 1= scan 1= dump 1= load 1= info 1= stats 1= check 1= compact 1= backup 1= convert 1= to-text 1="},
	{"locked", "lock", "put 1= get 1= del 1= scan 1= dump 1= load 1= info 1= stats 1= check 1= compact 1= backup 1= salvage 1= convert 1= to-text 1= to-lines 1="},
	{"damaged", "; nvkv salvage |does not match", "put 0~ get 0= del 0~ scan 1= dump 1= load 0~ info 0= stats 0= check 1= backup 1= restore 1= salvage 0+ convert 1= to-text 1= to-lines 0+"},
	{"no superblock", "salvage", "put 1= get 1= del 1= scan 1= dump 1= load 1= info 1= stats 1= check 1= compact 1= backup 1= salvage 1+ convert 1= to-text 1= to-lines 1+"},
	{"interrupted", "interrupted", "load 1~ check 1= compact 1~ backup 1= restore 1= salvage 1= convert 1= to-text 1= to-lines 1="},
	{"output exists", "", "backup 1= restore 1= salvage 1= convert 1= to-text 1= to-lines 1="},
	{"output is a directory", "", "backup 1= restore 1= salvage 1= convert 1= to-text 1= to-lines 1="},
	{"output is the input", "", "backup 1= restore 1= salvage 1= convert 1= to-text 1="},
	{"output in no directory", "no such file", "backup 1= restore 1= salvage 1= convert 1= to-text 1= to-lines 1="},
	{"full disk without a store", "no space", "put 1= load 1="},
	{"full disk", "no space", "put 1~ load 1~ backup 1= restore 1= salvage 1= convert 1= to-text 1= to-lines 1="},
}

// TestMatrix runs every command in every situation.
func TestMatrix(t *testing.T) {
	origins := &matrixOrigins{dir: t.TempDir(), made: map[string]string{}}
	for _, row := range matrix {
		t.Run(strings.ReplaceAll(row.situation, " ", "-"), func(t *testing.T) {
			cells := strings.Fields(row.cells)
			for i := 0; i < len(cells); i += 2 {
				m := &matrixCell{T: t, origins: origins, situation: row.situation, command: strings.Replace(cells[i], "to-", "to ", 1), says: row.says, want: cells[i+1]}
				m.run()
			}
		})
	}
}

// matrixCell is a command in a situation.
type matrixCell struct {
	*testing.T
	origins                        *matrixOrigins
	situation, command, says, want string
	dir, store, out                string
}

func (m *matrixCell) run() {
	dir, err := os.MkdirTemp(memoryDir(m.T), "nvkv-matrix-")
	m.must(err)
	defer os.RemoveAll(dir)
	m.dir = dir
	if m.situation == "full disk" {
		defer mountSmall(m.T, m.dir, 3<<20)()
	}
	if m.situation == "full disk without a store" {
		defer mountSmall(m.T, m.dir, 128<<10)()
	}
	m.store, m.out = filepath.Join(m.dir, "store"), filepath.Join(m.dir, "out")
	ctx, release := m.prepare()
	defer release()
	before := tree(m.T, m.dir)
	stdin := `{"key":"a","value":"2"}`
	if m.situation == "full disk" {
		stdin = strings.Repeat(`{"key":"a","value":"`+strings.Repeat("v", 1<<20)+`"}`+"\n", 8)
	}
	r := nvkvContext(ctx, stdin, m.args()...)
	if r.code != int(m.want[0]-'0') {
		m.Errorf("%s: exit %d, want %s: %s", m.command, r.code, m.want, r.errOut)
	}
	told := m.command == "salvage" || m.command == "to lines" // findings come before the error
	if r.code == exitFailed && (strings.Count(r.errOut, "\n") != 1 && !told || !slices.ContainsFunc(strings.Split(m.says, "|"), func(s string) bool { return strings.Contains(r.errOut, s) })) {
		m.Errorf("%s: says %q", m.command, r.errOut)
	}
	after := tree(m.T, m.dir)
	if made := m.made(); m.want[1] == '+' {
		if !strings.HasPrefix(after[made], "file") {
			m.Errorf("%s: no output", m.command)
		}
		delete(after, made)
	}
	if m.want[1] == '~' {
		if r := nvkv(m, "check", m.store); m.situation != "damaged" && r.code != exitDone {
			m.Errorf("%s: leaves a store that is not well: %+v", m.command, r)
		}
		delete(before, "store")
		delete(after, "store")
	}
	if !maps.Equal(before, after) {
		m.Errorf("%s: before %v, left behind %v", m.command, slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
	}
}

// made returns the name of the command's output.
func (m *matrixCell) made() string {
	if m.command == "to lines" {
		return "out.jsonl"
	}
	return "out"
}

func (m *matrixCell) args() []string {
	args := strings.Fields(matrixCommands[m.command])
	for i := range args {
		args[i] = strings.NewReplacer("S", m.store, "O", m.out).Replace(args[i])
	}
	if m.situation == "full disk" && m.command == "put" {
		args[3] = "-"
	}
	return args
}

// prepare sets up the situation, and returns a function that ends it.
func (m *matrixCell) prepare() (ctx context.Context, release func()) {
	ctx, release = m.Context(), func() {}
	switch m.situation {
	case "absent", "full disk without a store":
	case "directory":
		m.must(os.Mkdir(m.store, 0o755))
	case "pebble":
		m.must(os.CopyFS(m.store, os.DirFS(m.origins.pebble(m.T))))
	case "empty":
		m.must(os.WriteFile(m.store, nil, 0o644))
	case "text":
		m.must(os.WriteFile(m.store, []byte("Dear reader, this is not a store.\n"), 0o644))
	case "bbolt":
		db, err := bolt.Open(m.store, 0o600, nil)
		m.must(err)
		m.must(db.Close())
	default:
		return m.prepareStore()
	}
	return ctx, release
}

// prepareStore sets up a situation with a store, or with a backup to restore.
func (m *matrixCell) prepareStore() (ctx context.Context, release func()) {
	ctx, release = m.Context(), func() {}
	filler := 0
	if m.situation == "full disk" {
		filler = 1 << 20
	}
	from := m.origins.store(m.T, filler)
	if m.command == "restore" {
		from = m.origins.backup(m.T, filler)
	}
	b, err := os.ReadFile(from)
	m.must(err)
	m.must(os.WriteFile(m.store, b, 0o600))
	switch m.situation {
	case "locked":
		db, err := kv.Open(m.store, nil)
		m.must(err)
		return ctx, func() { db.Close() }
	case "damaged":
		rot(m, m.store, "second value")
	case "no superblock":
		clear(b[:20<<10])
		m.must(os.WriteFile(m.store, b, 0o600))
	case "interrupted":
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return ctx, release
	case "output exists":
		m.must(os.WriteFile(filepath.Join(m.dir, m.made()), []byte("precious"), 0o644))
	case "output is a directory":
		m.must(os.Mkdir(filepath.Join(m.dir, m.made()), 0o755))
	case "output is the input":
		m.out = m.store
	case "output in no directory":
		m.out = filepath.Join(m.dir, "none", "out")
	case "full disk":
		m.fill()
	}
	return ctx, release
}

// matrixOrigins are the files that situations copy, each made once.
type matrixOrigins struct {
	dir  string
	made map[string]string
}

func (o *matrixOrigins) get(name string, make func(path string)) string {
	path := filepath.Join(o.dir, name)
	if _, ok := o.made[name]; !ok {
		make(path)
		o.made[name] = path
	}
	return path
}

// store returns a store with some records, and one record of the given size.
func (o *matrixOrigins) store(t *testing.T, filler int) string {
	return o.get(fmt.Sprint("store", filler), func(path string) {
		mustIn(t, "a\tfirst value\nb\tsecond value\nc\tthird value\nf\t"+strings.Repeat("f", filler), "load", path, "-", "--format", "lines")
	})
}

func (o *matrixOrigins) backup(t *testing.T, filler int) string {
	return o.get(fmt.Sprint("backup", filler), func(path string) { must(t, "backup", o.store(t, filler), path) })
}

func (o *matrixOrigins) pebble(t *testing.T) string {
	return o.get("pebble", func(path string) { must(t, "convert", "--from", "nvkv:"+o.store(t, 0), "--to", "pebble:"+path) })
}

// fill leaves too little room for an output, and enough for the existing files.
func (m *matrixCell) fill() {
	f, err := os.Create(filepath.Join(m.dir, "ballast"))
	m.must(err)
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 64<<10)); err != nil {
			return
		}
	}
}

func (m *matrixCell) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

// tree returns the contents of the files below dir.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			list[path] = "directory"
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, path))
		list[path] = fmt.Sprintf("file of %d bytes, %x", len(b), sum(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func sum(b []byte) string {
	s := newRecordSum()
	s.h.Write(bytes.TrimRight(b, "\x00"))
	return s.hex()[:16]
}
