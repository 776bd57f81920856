package socket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Answer takes what a server sends before its result. A field that is nil refuses what it would
// take.
type Answer struct {
	Data  io.Writer // bytes of the stream
	Event func(json.RawMessage) error
}

// Ask sends a request to the server at path, and returns its result. It ends with the error of ctx,
// or with the first error of a; the server then cancels the request. An error of the server is a
// *CodedError. If nobody listens at path the error is fs.ErrNotExist or ECONNREFUSED.
func Ask(ctx context.Context, path string, q *Request, a Answer) (result json.RawMessage, err error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	c, err := net.DialUnix("unix", nil, address(path))
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, plain(err))
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	result, err = ask(c, q, a)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("socket %s: its process does not answer", path)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("socket %s: its process ended or closed the store: %w", path, io.ErrUnexpectedEOF)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = fmt.Errorf("socket %s: %w", path, plain(err))
	}
	return result, err
}

func ask(c net.Conn, q *Request, a Answer) (json.RawMessage, error) {
	f, err := textFrame(kindRequest, q)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(helloWait))
	_, sendErr := c.Write(append(header(), f...)) // a server that refuses says why, and reads nothing
	version, err := readHeader(c)
	if err != nil {
		return nil, errors.Join(sendErr, err)
	}
	c.SetDeadline(time.Time{})
	if version != Version {
		return nil, fmt.Errorf("the process that has the store open speaks version %d of the protocol, and this program version %d", version, Version)
	}
	return receive(c, a)
}

// receive takes the frames of an answer.
func receive(r io.Reader, a Answer) (json.RawMessage, error) {
	for {
		kind, payload, err := readFrame(r)
		if err != nil {
			return nil, unexpected(err)
		}
		switch {
		case kind == kindResult:
			return payload, nil
		case kind == kindError:
			coded := new(CodedError)
			if err := json.Unmarshal(payload, coded); err != nil {
				return nil, fmt.Errorf("%w: an error that is no JSON of one: %w", errProtocol, err)
			}
			return nil, coded
		case kind == kindData && a.Data != nil:
			_, err = a.Data.Write(payload)
		case kind == kindEvent && a.Event != nil:
			err = a.Event(payload)
		default:
			err = fmt.Errorf("%w: a frame of kind %q that was not asked for", errProtocol, kind)
		}
		if err != nil {
			return nil, err
		}
	}
}
