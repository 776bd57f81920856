package nvkvraft

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	"nvkv/kv"
)

// A snapshot is snapshotMagic, the mark of the state, a CRC-32C of both, and a backup of kv.
const snapshotMagic = "nvkvfsm1"

const snapshotHead = len(snapshotMagic) + markBytes + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrSnapshot says that a stream is no snapshot of a state machine.
var ErrSnapshot = errors.New("nvkvraft: no snapshot of a state machine")

func appendHead(dst []byte, at mark) []byte {
	dst = at.append(append(dst, snapshotMagic...))
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst, castagnoli))
}

func readHead(r io.Reader) (mark, error) {
	b := make([]byte, snapshotHead)
	if _, err := io.ReadFull(r, b); err != nil {
		return mark{}, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	sum := binary.BigEndian.Uint32(b[len(b)-4:])
	if string(b[:len(snapshotMagic)]) != snapshotMagic || crc32.Checksum(b[:len(b)-4], castagnoli) != sum {
		return mark{}, ErrSnapshot
	}
	return readMark(b[len(snapshotMagic):]), nil
}

// Readdress returns a snapshot, such as WriteSnapshot wrote, for raft.Restore: it becomes the
// state of the entry at index, which must be above all entries that a node may have applied.
func Readdress(r io.Reader, index uint64) (io.Reader, error) {
	at, err := readHead(r)
	if err != nil {
		return nil, err
	}
	at.index = index
	return io.MultiReader(bytes.NewReader(appendHead(nil, at)), r), nil
}

// WriteSnapshot writes a snapshot of the state of now, for a backup.
func (f *FSM) WriteSnapshot(ctx context.Context, w io.Writer) error {
	s, err := f.acquire()
	if err != nil {
		return err
	}
	tx, err := s.db.Begin(false)
	if err != nil {
		return errors.Join(err, f.release(s))
	}
	snap := &snapshot{f: f, s: s, tx: tx}
	defer snap.Release()
	// The mark is that of the transaction: other commands may have been applied since.
	if b, err := tx.Get(markKey); err == nil {
		snap.at = readMark(b)
	} else if !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	return snap.write(ctx, w)
}

// snapshot is a read transaction, so it costs nothing until it is persisted.
type snapshot struct {
	f  *FSM
	s  *state
	tx *kv.Tx
	at mark
}

// Snapshot returns a snapshot of the state of now.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.Failure(); err != nil {
		return nil, err
	}
	s, err := f.acquire()
	if err != nil {
		return nil, err
	}
	tx, err := s.db.Begin(false)
	if err != nil {
		return nil, errors.Join(err, f.release(s))
	}
	return &snapshot{f, s, tx, f.mark()}, nil
}

// Persist streams the snapshot, in memory that does not depend on its size, beside readers and
// writers. Before it ends it syncs the store: raft deletes the entries of the snapshot from its
// log afterwards, so the store may not lose what they did.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	err := s.write(context.Background(), sink)
	if err == nil {
		err = s.s.db.Sync()
	}
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (s *snapshot) write(ctx context.Context, w io.Writer) error {
	b := bufio.NewWriterSize(w, 256<<10)
	if _, err := b.Write(appendHead(nil, s.at)); err != nil {
		return err
	}
	if _, err := s.tx.Backup(ctx, b); err != nil {
		return err
	}
	return b.Flush()
}

// Release ends the snapshot.
func (s *snapshot) Release() {
	_ = s.tx.Rollback()
	_ = s.f.release(s.s)
}

// Restore replaces the state by that of a snapshot. The new store is built beside the old one
// and takes its name when it is complete and durable. A crash before that leaves the old state,
// and raft restores the snapshot again: see NeedsRestore. Reads go on in the old state meanwhile.
func (f *FSM) Restore(rc io.ReadCloser) error {
	defer rc.Close()
	at, err := f.receive(rc)
	if err != nil {
		return errors.Join(err, removeIfThere(f.incoming()))
	}
	f.step("received")
	if err := os.Rename(f.incoming(), f.path); err != nil {
		return err
	}
	f.step("renamed")
	if err := syncDir(filepath.Dir(f.path)); err != nil {
		return f.stuck(err)
	}
	// From here on the file is the new state.
	db, _, err := f.open(f.path)
	if err != nil {
		return f.stuck(err)
	}
	f.mu.Lock()
	old := f.cur
	if old == nil {
		f.mu.Unlock()
		return errors.Join(kv.ErrClosed, db.Close())
	}
	f.cur = &state{db: db, users: 1}
	f.mu.Unlock()
	f.reached(at)
	f.events.restart(at.index)
	return f.release(old)
}

// tried is what the name of a directory of TrySnapshot has behind that of the state.
const tried = ".try-"

// TrySnapshot says whether Restore would take a snapshot, and changes nothing. It makes a store of
// it beside the state and removes that again, so it may be called beside everything else.
func (f *FSM) TrySnapshot(ctx context.Context, src io.Reader) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(f.path), filepath.Base(f.path)+tried)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r := bufio.NewReaderSize(src, 256<<10)
	if _, err := readHead(r); err != nil {
		return err
	}
	if err := kv.Restore(ctx, filepath.Join(dir, "state.nv"), r, f.options()); err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return nil
}

// receive makes a store at f.incoming of a snapshot, with the mark of the snapshot's head.
func (f *FSM) receive(src io.Reader) (mark, error) {
	r := bufio.NewReaderSize(src, 256<<10)
	at, err := readHead(r)
	if err != nil {
		return mark{}, err
	}
	if err := removeIfThere(f.incoming()); err != nil {
		return mark{}, err
	}
	// What has expired is judged by the clock of the snapshot, as it was when that was taken.
	o := f.options()
	o.Clock = func() time.Time { return time.Unix(0, at.clock) }
	if err := kv.Restore(context.Background(), f.incoming(), r, o); err != nil {
		return mark{}, err
	}
	f.step("restored")
	db, got, err := f.open(f.incoming())
	if err != nil {
		return mark{}, err
	}
	if got != at {
		err = errors.Join(db.Put(markKey, at.append(nil)), db.Sync())
	}
	return at, errors.Join(err, db.Close())
}

// stuck fails the state machine: the file and the open store are not the same any more.
func (f *FSM) stuck(err error) error {
	f.fail(err)
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// NeedsRestore says whether the state lacks something that the newest snapshot has. raft need
// not restore a snapshot on start where it does not, and must where it does: set
// raft.Config.NoSnapshotRestoreOnStart to the opposite.
func (f *FSM) NeedsRestore(snapshots raft.SnapshotStore) (bool, error) {
	list, err := snapshots.List()
	if err != nil || len(list) == 0 {
		return false, err
	}
	_, rc, err := snapshots.Open(list[0].ID)
	if err != nil {
		return false, err
	}
	defer rc.Close()
	at, err := readHead(rc)
	return err == nil && at.index > f.Applied(), err
}
