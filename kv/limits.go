package kv

import (
	"nvkv/alloc"
	"nvkv/kv/internal/record"
)

const (
	// MaxKeyBytes and MaxValueBytes bound what can be stored.
	MaxKeyBytes   = record.MaxKeyBytes
	MaxValueBytes = record.MaxValueBytes

	// FormatVersion is the version of the on-medium format, which every open
	// store has: stores of others are refused with ErrVersion.
	FormatVersion = alloc.FormatVersion
)
