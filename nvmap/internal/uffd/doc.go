// Package uffd makes the calls of Linux's userfaultfd: page faults of a range of addresses are
// events, which this or another process resolves.
package uffd
