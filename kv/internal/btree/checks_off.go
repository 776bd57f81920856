//go:build !nvkvdebug

package btree

import "nvkv/nvmap"

// checks looks at pages after each change in debug builds. Elsewhere it is nothing.
type checks struct{}

func (checks) born(nvmap.PageID)            {}
func (checks) changed(*Index, nvmap.PageID) {}
func (checks) entry(*Index, *Path)          {}
func (checks) forget()                      {}
