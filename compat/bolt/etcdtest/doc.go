// Package etcdtest runs real etcd servers on the drop-in: a cluster of three members, each a
// process of its own. It is a module of its own, because etcd is a heavy dependency.
package etcdtest
