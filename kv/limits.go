package kv

import (
	"nvkv/alloc"
	"nvkv/kv/internal/record"
)

const (
	// MaxKeyBytes and MaxValueBytes are the largest lengths of a key and of a value.
	MaxKeyBytes   = record.MaxKeyBytes
	MaxValueBytes = record.MaxValueBytes

	// FormatVersion is the version of the on-medium format. Stores of other versions are refused
	// with ErrVersion.
	FormatVersion = alloc.FormatVersion
)
