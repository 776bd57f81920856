module nvkv/compat/datastore

go 1.26.0

require (
	github.com/ipfs/go-datastore v0.9.2
	nvkv v0.0.0
)

require (
	github.com/google/uuid v1.6.0 // indirect
	github.com/ipfs/go-detect-race v0.0.1 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace nvkv => ../..
