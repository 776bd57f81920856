//go:build !race

package kv

const raceBuild = false
