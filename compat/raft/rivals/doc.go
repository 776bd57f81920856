// Package rivals holds measurements of nvkvraft beside other stores of raft. It is a module of its
// own, so that their dependencies burden nobody else.
package rivals
