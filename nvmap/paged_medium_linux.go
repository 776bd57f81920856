//go:build amd64 || arm64

package nvmap

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"nvkv/nvmap/internal/paging"
)

// pagedMedium is a device as a pager sees it.
type pagedMedium struct {
	d      Device
	batch  BatchReader // d, if it is one
	settle func() error
}

// openMedium opens the device of a transparent map. hold says that it is opened for its lock; else
// another process holds the lock.
func openMedium(c *paging.Config, hold bool) (paging.Medium, error) {
	var o OpenOptions
	if err := json.Unmarshal(c.Device, &o); err != nil {
		return nil, err
	}
	if !hold {
		o.NoLock, o.Create = true, false
	}
	d, err := OpenDevice(c.Path, o)
	if err != nil {
		return nil, err
	}
	m := &pagedMedium{d: d, settle: d.Fence}
	m.batch, _ = d.(BatchReader)
	switch d := d.(type) {
	case interface{ flush() error }:
		m.settle = d.flush
	case interface{ Show() error }:
		m.settle = d.Show
	}
	return m, nil
}

func (m *pagedMedium) Size() int64 { return m.d.Size() }

func (m *pagedMedium) Grow(size int64) error { return m.d.Grow(size) }

func (m *pagedMedium) Settle() error { return m.settle() }

func (m *pagedMedium) Fence() error { return m.d.Fence() }

func (m *pagedMedium) Close() error { return m.d.Close() }

func (m *pagedMedium) Read(moves []paging.Move) {
	if m.batch == nil {
		eachRun(moves, func(off Off, b []byte) error { return m.d.Read(off, b) })
		return
	}
	reqs := make([]PageRead, len(moves))
	for i := range moves {
		reqs[i] = PageRead{Page: PageID(moves[i].Page), Buf: moves[i].Buf}
	}
	err := m.batch.ReadBatch(reqs)
	for i := range moves {
		moves[i].Err = reqs[i].Err
	}
	if err != nil && len(moves) == 1 {
		moves[0].Err = err
	}
}

func (m *pagedMedium) Write(moves []paging.Move) {
	eachRun(moves, func(off Off, b []byte) error { return m.d.Write(off, b) })
}

// eachRun calls do for each run of moves that are neighbours on the device and in memory. If a run
// fails, it calls do for each of its pages.
func eachRun(moves []paging.Move, do func(off Off, b []byte) error) {
	for len(moves) > 0 {
		n := 1
		for n < len(moves) && follows(&moves[n-1], &moves[n]) {
			n++
		}
		b := unsafe.Slice(unsafe.SliceData(moves[0].Buf), n*PageBytes)
		if err := do(PageID(moves[0].Page).Off(), b); err != nil {
			for i := range moves[:n] {
				moves[i].Err = err
				if n > 1 {
					moves[i].Err = do(PageID(moves[i].Page).Off(), moves[i].Buf)
				}
			}
		}
		moves = moves[n:]
	}
}

func follows(a, b *paging.Move) bool {
	return b.Page == a.Page+1 &&
		unsafe.Pointer(unsafe.SliceData(b.Buf)) == unsafe.Add(unsafe.Pointer(unsafe.SliceData(a.Buf)), PageBytes)
}

// pagedPolicy is a Policy with the page numbers of package paging.
type pagedPolicy struct {
	Policy
	ids []PageID
}

func openPolicy(name string) (paging.Policy, error) {
	p, err := NewPolicy(name)
	if err != nil {
		return nil, err
	}
	return &pagedPolicy{Policy: p}, nil
}

func (p *pagedPolicy) Admit(page uint64, write bool) bool { return p.Policy.Admit(PageID(page), write) }
func (p *pagedPolicy) Insert(page uint64)                 { p.Policy.Insert(PageID(page)) }
func (p *pagedPolicy) Remove(page uint64)                 { p.Policy.Remove(PageID(page)) }

func (p *pagedPolicy) Victims(dst []uint64, n int, touched func(uint64) bool) []uint64 {
	p.ids = p.Policy.Victims(p.ids[:0], n, func(id PageID) bool { return touched(uint64(id)) })
	for _, id := range p.ids {
		dst = append(dst, uint64(id))
	}
	return dst
}

// classes are the errors that keep their identity on the way from the pager.
var classes = map[string]error{
	"full": ErrFull, "locked": ErrLocked, "closed": ErrClosed, "read-only": ErrReadOnly,
	"unsupported": errors.ErrUnsupported, "absent": os.ErrNotExist, "permission": os.ErrPermission,
}

func classOf(err error) paging.Failure {
	f := paging.Failure{Text: err.Error()}
	var fault *FaultError
	if errors.As(err, &fault) {
		f.Class, f.Off, f.Op = "fault", uint64(fault.Off), fault.Op
		if fault.Err != nil {
			f.Text = fault.Err.Error()
		} else {
			f.Text = ""
		}
		return f
	}
	for class, is := range classes {
		if errors.Is(err, is) {
			f.Class = class
		}
	}
	return f
}

// classError is an error that the pager reported.
type classError struct {
	text string
	is   error
}

func (e *classError) Error() string { return e.text }
func (e *classError) Unwrap() error { return e.is }

// pagedError gives an error of the pager its identity.
func pagedError(err error) error {
	var r *paging.RemoteError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrClosed):
		return ErrClosed
	case !errors.As(err, &r):
		return err
	case r.Class == "fault":
		f := &FaultError{Off: Off(r.Off), Op: r.Op}
		if r.Text != "" {
			f.Err = errors.New(r.Text)
		}
		return f
	case classes[r.Class] != nil:
		return &classError{r.Text, classes[r.Class]}
	}
	return fmt.Errorf("nvmap: %s", r.Text)
}
