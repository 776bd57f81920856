//go:build !linux

package bench

import "time"

// These figures are available on Linux only, and are zero elsewhere.

func rssAnon() int64                                 { return 0 }
func cpuTime() time.Duration                         { return 0 }
func machineTime() time.Duration                     { return 0 }
func memoryMiB() int64                               { return 0 }
func kernelRelease() string                          { return "" }
func fileSystem(string) (name string, volatile bool) { return "unknown", false }
