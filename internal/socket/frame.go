package socket

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// These are the kinds of frames.
const (
	kindRequest = 'q'
	kindData    = 'd'
	kindEvent   = 'e'
	kindResult  = 'r'
	kindError   = 'x'
)

const (
	headerBytes = 8
	frameBytes  = 5 // before the payload

	// MaxRequestBytes bounds a request: three keys in base64, and some more.
	MaxRequestBytes = 512 << 10
	maxDataBytes    = 64 << 10
	maxTextBytes    = 1 << 20 // of an event, a result or an error
)

// errProtocol means that the other side does not keep to the protocol.
var errProtocol = errors.New("not the protocol of nvkv")

func maxPayload(kind byte) (int, bool) {
	switch kind {
	case kindRequest:
		return MaxRequestBytes, true
	case kindData:
		return maxDataBytes, true
	case kindEvent, kindResult, kindError:
		return maxTextBytes, true
	}
	return 0, false
}

func header() []byte {
	return binary.LittleEndian.AppendUint16([]byte("NVKVS\x00"), Version)
}

// readHeader returns the version of the other side.
func readHeader(r io.Reader) (version int, err error) {
	var b [headerBytes]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	if string(b[:6]) != "NVKVS\x00" {
		return 0, fmt.Errorf("%w: it begins with %q", errProtocol, b[:])
	}
	return int(binary.LittleEndian.Uint16(b[6:])), nil
}

func readFrame(r io.Reader) (kind byte, payload []byte, err error) {
	var b [frameBytes]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(b[1:])
	most, known := maxPayload(b[0])
	if !known || n > uint32(most) {
		return 0, nil, fmt.Errorf("%w: a frame of kind %q and %d bytes", errProtocol, b[0], n)
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, unexpected(err)
	}
	return b[0], payload, nil
}

// unexpected returns err for a stream that ends inside a frame.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func appendFrame(dst []byte, kind byte, payload []byte) []byte {
	dst = append(dst, kind)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(payload)))
	return append(dst, payload...)
}

// textFrame returns v as a frame of JSON.
func textFrame(kind byte, v any) ([]byte, error) {
	p, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if most, _ := maxPayload(kind); len(p) > most {
		return nil, fmt.Errorf("an answer of %d bytes does not fit into a frame of %d", len(p), most)
	}
	return appendFrame(nil, kind, p), nil
}
