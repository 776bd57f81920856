// Package common has the types that the interface of bbolt takes from a package of
// this name.
package common

import "fmt"

// Pgid is the number of a page. The drop-in gives the number of a bucket instead,
// where bbolt gives that of a bucket's root page.
type Pgid uint64

// Page stands for a page of bbolt's file. There are none here.
type Page struct{}

// PageInfo describes a page of the file that Tx.WriteTo would write.
type PageInfo struct {
	ID            int
	Type          string
	Count         int
	OverflowCount int
}

// InBucket is what a bucket is known by: its number and its sequence.
type InBucket struct {
	root     Pgid
	sequence uint64
}

// NewInBucket returns a bucket's number and sequence.
func NewInBucket(root Pgid, sequence uint64) InBucket { return InBucket{root, sequence} }

// RootPage returns the bucket's number. No other bucket of the store ever had it.
func (b *InBucket) RootPage() Pgid { return b.root }

// SetRootPage does nothing: a bucket keeps its number.
func (b *InBucket) SetRootPage(Pgid) {}

// InSequence returns the sequence.
func (b *InBucket) InSequence() uint64 { return b.sequence }

// SetInSequence sets the sequence; a commit of the bucket's transaction keeps it.
func (b *InBucket) SetInSequence(v uint64) { b.sequence = v }

// IncSequence adds one to the sequence; see SetInSequence.
func (b *InBucket) IncSequence() { b.sequence++ }

// InlinePage returns nil: no bucket lies in a page of another.
func (b *InBucket) InlinePage([]byte) *Page { return nil }

func (b *InBucket) String() string { return fmt.Sprintf("<pgid=%d,seq=%d>", b.root, b.sequence) }
