package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nvkv/internal/effort"
	"nvkv/internal/hostile"
	"nvkv/kv"
)

// hostileFileEnv has a process of these tests run every command on a file.
const hostileFileEnv = "NVKV_HOSTILE_FILE"

// hostileStores makes stores for package hostile: closed, with long keys, large values
// and expiries.
func hostileStores(t *testing.T) (images []*hostile.Image) {
	t.Helper()
	for shape := range 3 {
		path := filepath.Join(memoryDir(t), fmt.Sprint("nvkv-hostile-", os.Getpid(), shape))
		defer os.Remove(path)
		db, err := kv.Open(path, &kv.Options{SlabBytes: 4096 << shape})
		for i := 0; i < 200 && err == nil; i++ {
			k := []byte(fmt.Sprint("key", i))
			switch {
			case i%40 == 0:
				k = []byte(strings.Repeat(string(k), 300))
			case i%25 == 0:
				err = db.Put(append(k, "large"...), make([]byte, 300*i))
			}
			err = errors.Join(err, db.PutTTL(k, []byte(strings.Repeat("v", i)), time.Duration(1+i%3)*time.Hour))
		}
		if err = errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		im, err := hostile.New(b)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, im)
	}
	return images
}

// TestHostileFiles runs every command on files that an adversary made, those of one file
// in a process of its own: none panics or hangs, and what fails says why.
func TestHostileFiles(t *testing.T) {
	images := hostileStores(t)
	dir, err := os.MkdirTemp(memoryDir(t), "nvkv-hostile-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for seed := range uint64(effort.Pick(1, 3, 60, 600)) {
		rng := rand.New(rand.NewPCG(seed, 1))
		im := images[seed%3].Clone()
		if seed%2 == 0 || !im.Attack(rng.IntN(len(hostile.Attacks())), rng) {
			im = images[seed%3].Clone()
			im.Change(rng)
		}
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, im.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run", "^TestHostileCommands$", "-test.timeout", effort.Hang.String())
		cmd.Env = append(os.Environ(), hostileFileEnv+"="+file)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("seed %d, %s: %v\n%.3000s", seed, im.Said(), err, out)
		}
	}
}

// TestHostileCommands is the process of TestHostileFiles.
func TestHostileCommands(t *testing.T) {
	file := os.Getenv(hostileFileEnv)
	if file == "" {
		t.Skip("for the processes of TestHostileFiles")
	}
	image, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(file)
	store, out := filepath.Join(dir, "store"), filepath.Join(dir, "out")
	var names []string
	for name := range matrixCommands {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := os.WriteFile(store, image, 0o600); err != nil {
			t.Fatal(err)
		}
		args := strings.Fields(matrixCommands[name])
		for i := range args {
			args[i] = strings.NewReplacer("S", store, "O", out).Replace(args[i])
		}
		r := nvkvContext(t.Context(), `{"key":"a","value":"2"}`, args...)
		if r.code != exitDone && r.errOut == "" && r.out == "" {
			t.Errorf("%s: exit %d without a word", name, r.code)
		}
		for _, made := range []string{out, out + ".jsonl", store} {
			os.RemoveAll(made)
		}
	}
}
