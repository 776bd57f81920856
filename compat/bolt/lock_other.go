//go:build !unix

package bbolt

import "os"

// lock takes no lock: this system has none of that kind.
func lock(*os.File, bool) (bool, error) { return true, nil }
