// Package realtest tests the drop-in against bbolt itself: the interface, and files in both
// directions. It is a module of its own, because in the drop-in's module the name of bbolt
// means the drop-in.
package realtest
