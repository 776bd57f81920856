package main

import (
	"bytes"

	"github.com/spf13/cobra"
)

// rangeFlags are the flags for a range of keys.
type rangeFlags struct{ prefix, start, end string }

func (r *rangeFlags) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.prefix, "prefix", "", "only keys that begin with `P`")
	f.StringVar(&r.start, "start", "", "first `K` of the range")
	f.StringVar(&r.end, "end", "", "`K` at which the range stops")
}

// given says whether the command line has one of the flags.
func (r *rangeFlags) given(cmd *cobra.Command) bool {
	f := cmd.Flags()
	return f.Changed("prefix") || f.Changed("start") || f.Changed("end")
}

// bounds returns the range of the flags. The end is open only if no flag gives one: an empty --end
// is a range without keys.
func (r *rangeFlags) bounds(cmd *cobra.Command, c *coding) (start, end []byte, err error) {
	if start, err = c.decodeKey("--start", r.start); err != nil {
		return nil, nil, err
	}
	prefix, err := c.decodeKey("--prefix", r.prefix)
	if err != nil {
		return nil, nil, err
	}
	start, end = maxKey(start, prefix), prefixEnd(prefix)
	if !cmd.Flags().Changed("end") {
		return start, end, nil
	}
	stop, err := c.decodeKey("--end", r.end)
	if err != nil {
		return nil, nil, err
	}
	if end == nil || bytes.Compare(stop, end) < 0 {
		end = append([]byte{}, stop...) // never nil, which would be open
	}
	return start, end, nil
}

func maxKey(a, b []byte) []byte {
	if bytes.Compare(a, b) < 0 {
		return b
	}
	return a
}

// prefixEnd returns the least key after all keys with prefix p, or nil if there is none.
func prefixEnd(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] < 0xff {
			end := bytes.Clone(p[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}
