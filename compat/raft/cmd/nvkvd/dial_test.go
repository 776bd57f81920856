package main

import (
	"crypto/tls"
	"time"
)

// dialRaft opens a connection and says that it is one of raft.
func dialRaft(address string, config *tls.Config) (*tls.Conn, error) {
	c, err := tls.Dial("tcp", address, config)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, err = c.Write([]byte{1, 0x80}) // a request for votes
	return c, err
}
