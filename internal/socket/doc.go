// Package socket lets the process that has a store open answer other processes of the same user,
// over a unix socket.
//
// A connection carries one request. Both sides begin with a header of 8 bytes: "NVKVS", a zero and
// the version of the protocol, 2 bytes. Then the client sends one frame with a [Request], and the
// server answers with frames: data and events, any number of them, and at the end one result or one
// error. A client that closes the connection cancels its request.
//
//	frame = kind (1 byte), length (4 bytes), payload
//
// Integers are little-endian. A request, an event, a result and an error are JSON; data are bytes
// of a stream. Each kind has a greatest length, and a frame with a larger one ends the connection.
// The bytes of the other side are never trusted: they may claim anything.
//
// The package knows nothing of stores. Package kv has the handler, and cmd/nvkv is the client.
package socket

import "time"

// Version is the version of the protocol. A server refuses a client of another version.
const Version = 1

const (
	maxConns = 16 // a further client is refused

	// stallWait is how long a server waits for a client that does not read. Meanwhile its snapshot
	// pins old versions.
	stallWait = 2 * time.Minute
)

// helloWait is how long one side waits for the header and the request of the other. A test lowers
// it.
var helloWait = 5 * time.Second
