//go:build nvkvdebug

package debug

// On reports whether this is a debug build.
const On = true
