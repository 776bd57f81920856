module nvkv/compat/ethdb

go 1.26.0

require (
	github.com/ethereum/go-ethereum v1.17.10
	nvkv v0.0.0
)

require golang.org/x/sys v0.49.0 // indirect

replace nvkv => ../..
