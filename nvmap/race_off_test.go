//go:build !race

package nvmap_test

const raceEnabled = false
