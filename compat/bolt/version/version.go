// Package version tells the version of bbolt's interface that the drop-in has.
package version

// Version is the version of go.etcd.io/bbolt whose interface this is.
var Version = "1.5.0"
