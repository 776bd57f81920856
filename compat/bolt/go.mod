module go.etcd.io/bbolt

go 1.26.0

require (
	golang.org/x/sys v0.49.0
	nvkv v0.0.0
)

replace nvkv => ../..
