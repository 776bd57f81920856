package record

import "nvkv/alloc"

// CorruptError is the error for damage that every layer reports.
type CorruptError = alloc.CorruptError
