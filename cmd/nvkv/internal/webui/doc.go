// Package webui shows a store in a browser: keys by prefix, values as text, JSON or hexadecimal, and
// the counters of the engine. Pages are plain HTML without scripts.
//
// Keys and values are hostile input. They reach a page through html/template only. The policy in the
// header of each answer forbids scripts, frames, and everything from elsewhere. A raw value is sent as
// a download, never as a page.
//
// The URL has a secret as its first part, so that other users of the machine, and pages of other
// origins in the same browser, cannot read the store. An answer forbids to send the URL on as a
// referrer. A request that names a host which is not a loopback address is refused: else a name that
// resolves to 127.0.0.1 would let a foreign page in.
package webui
